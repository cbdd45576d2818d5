/** What a checkpoint is written from while training goes on: this rank's parts as they are now, in host memory. */

import type { TensorPart } from '../../parallel/index.js';
import { emptyOnHost, hold, noGrad, type Holding } from '../../torch/index.js';

/** Copies of the parts that this rank writes, in the type in which they are written. */
export function copyParts(parts: readonly TensorPart[]): Holding<TensorPart[]> {
  const own = parts.filter(({ writes }) => writes);
  return hold(() =>
    noGrad(() =>
      own.map(({ tensor, dtype = tensor.dtype, ...part }) => {
        const copy = emptyOnHost(tensor.shape, dtype, tensor.device, { locked: false });
        return { ...part, tensor: copy.copy_(tensor) };
      }),
    ),
  );
}
