/**
 * The parameter store of one process without sharding: everything stays in place, gradients are summed in fp32.
 *
 * Where an update has one micro-batch and a parameter belongs to one segment, there is nothing to sum, and the gradient is
 * kept in the dtype in which it came.
 */

import { noGrad, type Tensor } from '../../torch/index.js';
import type { SegmentBase } from '../../models/index.js';
import type { ParameterStore, Phase, SegmentGradients } from './parameter-store.js';

export class GradientAccumulator implements ParameterStore {
  private readonly sums = new Map<string, Tensor>();

  /** @param single whether each parameter gets its whole gradient at once (one micro-batch, no shared parameters) */
  constructor(private readonly single = false) {}

  acquire(_segment: SegmentBase, _phase: Phase): void {}
  prefetch(_segment: SegmentBase): void {}
  release(_segment: SegmentBase): void {}

  accept(_segment: SegmentBase, gradients: SegmentGradients): void {
    for (const [name, gradient] of gradients) {
      if (gradient === null) continue;
      const sum = this.sums.get(name);
      const dtype = this.single || gradient.dtype === 'float64' ? gradient.dtype : 'float32';
      const taken = noGrad(() =>
        sum === undefined ? gradient.to(dtype).keep() : sum.add_(gradient),
      );
      this.sums.set(name, taken);
      if (taken !== gradient) gradient.dispose();
    }
  }

  /** The sums by parameter name; parameters that no micro-batch reached are missing. */
  get gradients(): ReadonlyMap<string, Tensor> {
    return this.sums;
  }

  /** Frees the sums for the next update. */
  clear(): void {
    for (const sum of this.sums.values()) sum.dispose();
    this.sums.clear();
  }
}
