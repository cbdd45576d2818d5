/** Host memory beside a device, to which it copies without the host waiting. */

import type { DType } from './dtype.js';
import type { Device } from './native.js';
import { empty } from './operators.generated.js';
import type { Tensor } from './tensor.js';

/** An uninitialised tensor in host memory, page-locked where the device beside it is a GPU; beside the meta device it stays there. */
export function emptyOnHost(shape: readonly number[], dtype: DType, beside: Device): Tensor {
  const device = beside === 'meta' ? beside : 'cpu';
  return empty(shape, { dtype, device, pinMemory: beside.startsWith('cuda') });
}
