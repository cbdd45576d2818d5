/**
 * The store of one process without sharding: everything stays in place, gradients are summed in fp32 until the end of the update.
 *
 * Where an update has one micro-batch and a parameter belongs to one segment, there is nothing to sum, and the gradient is
 * kept in the dtype in which it came.
 */

import { RESIDENT, type SegmentBase, type SegmentedModel, type Steps } from '../../models/index.js';
import { squaredNorms } from '../../optim/index.js';
import { ALONE, wholeParts, type TensorPart } from '../../parallel/index.js';
import { hold, noGrad, type Holding, type Tensor } from '../../torch/index.js';
import { OptimizingStore, type OptimizingStoreOptions } from './optimizing-store.js';
import type {
  ParameterStore,
  SegmentGradients,
  UpdateOutcome,
  UpdateStart,
} from './parameter-store.js';

export interface AccumulatingStoreOptions extends OptimizingStoreOptions {
  readonly model: SegmentedModel;
}

export class AccumulatingStore extends OptimizingStore implements ParameterStore {
  readonly acquire = RESIDENT.acquire;
  readonly prefetch = RESIDENT.prefetch;
  readonly release = RESIDENT.release;
  private readonly sums = new Map<string, Tensor>();
  private readonly segmented: SegmentedModel;
  private readonly shared: boolean;
  private start: UpdateStart | undefined;

  constructor({ model, ...optimizing }: AccumulatingStoreOptions) {
    super(optimizing);
    this.segmented = model;
    this.shared = sharesParameters(model);
  }

  begin(start: UpdateStart): void {
    this.start = start;
  }

  accept(_segment: SegmentBase, gradients: SegmentGradients): void {
    // Each parameter gets its whole gradient at once.
    const whole = this.start?.microBatches === 1 && !this.shared;
    for (const [name, gradient] of gradients) {
      if (gradient === null) continue;
      const sum = this.sums.get(name);
      const dtype = whole || gradient.dtype === 'float64' ? gradient.dtype : 'float32';
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

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    const { sums: gradients, start } = this;
    return hold(() =>
      noGrad(() => {
        const names = [...gradients.keys()];
        const squares = squaredNorms(names, gradients, lossSum);
        return this.applyAll(start!, { gradients, names, squares, lossSum: lossSum.clone() });
      }),
    );
  }

  weights(): readonly TensorPart[] {
    return wholeParts(this.segmented.namedParameters(), ALONE);
  }

  clear(): void {
    for (const sum of this.sums.values()) sum.dispose();
    this.sums.clear();
    this.start = undefined;
  }
}

/** Whether a parameter belongs to several segments (tied embeddings). */
function sharesParameters({ segments, head }: SegmentedModel): boolean {
  const names = [...segments, head].flatMap((segment) => [...segment.parameters().keys()]);
  return new Set(names).size < names.length;
}
