/**
 * The store of one process without sharding: everything stays in place, gradients are summed in fp32 until the end of the update.
 *
 * Where an update has one micro-batch and a parameter belongs to one segment, there is nothing to sum, and the gradient is
 * kept in the dtype in which it came.
 */

import { RESIDENT, type SegmentBase, type SegmentedModel, type Steps } from '../../models/index.js';
import { gradientFactor, tensorNorms, type AdamW, type Gate } from '../../optim/index.js';
import { hold, noGrad, type Holding, type Tensor } from '../../torch/index.js';
import type {
  ParameterStore,
  SegmentGradients,
  UpdateOutcome,
  UpdateStart,
} from './parameter-store.js';
import { OPTIMIZER_STREAM, type Randomness } from './randomness.js';

export interface AccumulatingStoreOptions {
  readonly model: SegmentedModel;
  readonly optimizer: AdamW;
  readonly gate: Gate;
  /** Draws the stochastic rounding. */
  readonly randomness: Randomness;
  /** Global norm to clip to. @default none */
  readonly clipNorm?: number | null | undefined;
}

export class AccumulatingStore implements ParameterStore {
  readonly gates = [];
  readonly acquire = RESIDENT.acquire;
  readonly prefetch = RESIDENT.prefetch;
  readonly release = RESIDENT.release;
  private readonly sums = new Map<string, Tensor>();
  private readonly shared: boolean;
  private start: UpdateStart | undefined;

  constructor(private readonly options: AccumulatingStoreOptions) {
    this.shared = sharesParameters(options.model);
  }

  begin(start: UpdateStart): void {
    this.clear();
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
    const { optimizer, gate, randomness, clipNorm = null } = this.options;
    const { update, scheduleFactor, tokens, lossFactor } = this.start!;
    return hold(() =>
      noGrad(() => {
        const norms = tensorNorms([...this.sums.values()], tokens);
        const squares = norms.square().sum(null);
        const factor = gradientFactor(squares, tokens, lossFactor, clipNorm);
        const foundInf = gate.flag(factor.foundInf);
        optimizer.update({
          gradients: this.sums,
          ...{ scheduleFactor, foundInf },
          divisor: factor.divisor,
          generator: randomness.of(OPTIMIZER_STREAM, { update, microBatch: 0 }),
        });
        gate.take(foundInf);
        return {
          norm: factor.norm,
          foundInf: foundInf.reshape([1]),
          tensorNorms: norms.div(tokens.clamp(1).mul(lossFactor)),
          tensorNames: [...this.sums.keys()],
          lossSum: lossSum.clone(),
        };
      }),
    );
  }

  clear(): void {
    for (const sum of this.sums.values()) sum.dispose();
    this.sums.clear();
    this.start = undefined;
  }

  state(): Map<string, Tensor> {
    return this.options.optimizer.state();
  }

  dispose(): void {
    this.clear();
    this.options.optimizer.dispose();
    this.options.gate.dispose();
  }
}

/** Whether a parameter belongs to several segments (tied embeddings). */
function sharesParameters({ segments, head }: SegmentedModel): boolean {
  const names = [...segments, head].flatMap((segment) => [...segment.parameters().keys()]);
  return new Set(names).size < names.length;
}
