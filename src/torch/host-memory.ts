/** Host memory beside a device, to which it copies without the host waiting. */

import { noGrad } from './autograd.js';
import type { DType } from './dtype.js';
import { asHostMemory } from './ghost-trace.js';
import type { Device } from './native.js';
import { empty } from './operators.generated.js';
import type { Tensor } from './tensor.js';

export interface HostOptions {
  /** Page-locked where the device beside it is a GPU. @default true */
  readonly locked?: boolean;
}

/** An uninitialised tensor in host memory; beside the meta device it stays there. */
export function emptyOnHost(
  shape: readonly number[],
  dtype: DType,
  beside: Device,
  { locked = true }: HostOptions = {},
): Tensor {
  if (beside === 'meta') return asHostMemory(() => empty(shape, { dtype, device: beside }));
  return empty(shape, { dtype, device: 'cpu', pinMemory: locked && beside.startsWith('cuda') });
}

/**
 * A copy of a tensor in host memory on a device, which for a GPU is only queued: the host does not wait until the device has done
 * what it was given before. The tensor may be overwritten or freed at once.
 */
export function sendTo(host: Tensor, device: Device): Tensor {
  if (!device.startsWith('cuda')) return host.to({ device });
  const locked = noGrad(() => emptyOnHost(host.shape, host.dtype, device).copy_(host));
  try {
    return locked.to({ device }, { nonBlocking: true });
  } finally {
    // libtorch keeps its memory until the copy is done.
    locked.dispose();
  }
}
