/**
 * The updates of single segments within one backward, each behind a gate of its own: the factor is known before the backward ends, the
 * global norm is not.
 */

import { cat, empty, noGrad, scope, type Tensor } from '../../torch/index.js';
import type { GatedUpdate, OptimizingStoreOptions } from './optimizing-store.js';
import type { UpdateOutcome, UpdateStart } from './parameter-store.js';

/** What one segment brings. */
export interface SegmentSums {
  /** What this rank updates, by name. */
  readonly gradients: ReadonlyMap<string, Tensor>;
  /** Squared norms of whole gradients (n), fp32, and the names that belong to them. */
  readonly squares: Tensor;
  readonly names: readonly string[];
  /** Applies them. */
  readonly update: (update: GatedUpdate) => void;
}

export class SegmentUpdates {
  private readonly start: UpdateStart;
  /** tokens · lossFactor, what the sums are divided by. */
  private readonly divisor: Tensor;
  /** What was applied or left out so far, and whether its gradient was not finite; scalars, fp32. */
  private readonly gates: string[] = [];
  private readonly flags: Tensor[] = [];
  private readonly squares: Tensor[] = [];
  private readonly names: string[] = [];

  constructor(
    private readonly options: Pick<OptimizingStoreOptions, 'gate' | 'randomness'>,
    start: UpdateStart,
  ) {
    const { tokens, lossFactor } = start;
    this.start = start;
    this.divisor = noGrad(() => scope(() => tokens.clamp(1).mul(lossFactor))).keep();
  }

  apply(segment: string, { gradients, squares, names, update }: SegmentSums): void {
    const { gate, randomness } = this.options;
    const { scheduleFactor, update: index } = this.start;
    noGrad(() =>
      scope(() => {
        const isBad = squares.sum(null).isfinite().logicalNot().to('float32');
        const flag = gate.flag(isBad);
        update({
          ...{ gradients, scheduleFactor, divisor: this.divisor },
          foundInf: flag,
          rounding: (name) => randomness.ofRounding(index, name),
        });
        this.gates.push(segment);
        this.flags.push(flag.keep());
        this.squares.push(squares.clone().keep());
        this.names.push(...names);
      }),
    );
  }

  /** What all of them were. Within `noGrad`; the caller frees its tensors. */
  outcome(lossSum: Tensor): UpdateOutcome {
    const { divisor, gates, flags, squares, names } = this;
    const none = empty([0], { dtype: 'float32', device: divisor.device });
    const tensorNorms = cat([none, ...squares])
      .sqrt()
      .div(divisor);
    const foundInf = cat([none, ...flags.map((flag) => flag.reshape([1]))]);
    this.options.gate.take(foundInf);
    return {
      norm: tensorNorms.square().sum(null).sqrt(),
      ...{ foundInf, gates, lossSum },
      ...{ tensorNorms, tensorNames: names },
    };
  }

  dispose(): void {
    for (const tensor of [...this.flags, ...this.squares, this.divisor]) tensor.dispose();
  }
}
