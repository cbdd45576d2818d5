/**
 * The store of one process without sharding: everything stays in place, gradients are summed in fp32 until the end of the update.
 *
 * Where an update has one micro-batch and a parameter belongs to one segment, there is nothing to sum, and the gradient is
 * kept in the dtype in which it came.
 */

import { asOne, type GradientPlace } from '../../nn/index.js';
import { RESIDENT, type SegmentBase, type SegmentedModel, type Steps } from '../../models/index.js';
import { squaredNorms } from '../../optim/index.js';
import { ALONE, wholeParts, type TensorPart } from '../../parallel/index.js';
import {
  _foreachAdd_,
  empty,
  hold,
  noGrad,
  type DType,
  type Holding,
  type Tensor,
} from '../../torch/index.js';
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

  /** Matrices whose sums begin together lie one above the other. */
  place(_segment: SegmentBase, parameters: ReadonlyMap<string, Tensor>): GradientPlace | null {
    if (this.isWhole) return null;
    const { sums } = this;
    const begun = [...parameters.keys()].flatMap((name) => sums.get(name) ?? []);
    if (begun.length > 0) {
      const into = begun.length === parameters.size ? asOne(begun) : null;
      return into && { into, holds: true };
    }
    const matrices = [...parameters.values()];
    const { shape, dtype, device } = matrices[0]!;
    const rows = matrices.map((each) => each.shape[0]!);
    const into = empty([rows.reduce((sum, each) => sum + each), shape[1]!], {
      dtype: summed(dtype),
      device,
    });
    const parts = rows.length === 1 ? [into] : into.splitWithSizes(rows);
    [...parameters.keys()].forEach((name, i) => sums.set(name, parts[i]!.keep()));
    return { into, holds: false };
  }

  accept(_segment: SegmentBase, gradients: SegmentGradients): void {
    const { sums, isWhole } = this;
    const [targets, added]: [Tensor[], Tensor[]] = [[], []];
    for (const [name, gradient] of gradients) {
      if (gradient === null) continue;
      const sum = sums.get(name);
      if (sum !== undefined) {
        targets.push(sum);
        added.push(gradient);
        continue;
      }
      const { dtype } = gradient;
      const taken = isWhole ? gradient : noGrad(() => gradient.to(summed(dtype)));
      sums.set(name, taken.keep());
      if (taken !== gradient) gradient.dispose();
    }
    if (targets.length === 0) return;
    noGrad(() => {
      _foreachAdd_(targets, added);
    });
    for (const gradient of added) gradient.dispose();
  }

  /** Whether each parameter gets its whole gradient at once. */
  private get isWhole(): boolean {
    return this.start?.microBatches === 1 && !this.shared;
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

/** The type in which gradients are summed. */
function summed(dtype: DType): DType {
  return dtype === 'float64' ? dtype : 'float32';
}

/** Whether a parameter belongs to several segments (tied embeddings). */
function sharesParameters({ segments, head }: SegmentedModel): boolean {
  const names = [...segments, head].flatMap((segment) => [...segment.parameters().keys()]);
  return new Set(names).size < names.length;
}
