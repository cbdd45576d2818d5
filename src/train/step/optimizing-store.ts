/**
 * What stores with an optimizer of their own have in common: how it is applied, gated, to sums that are complete, what of it a
 * checkpoint holds, how it is freed.
 */

import {
  AdaptiveClip,
  gradientFactor,
  type AdamW,
  type AdamWUpdate,
  type Gate,
  type StepSizes,
} from '../../optim/index.js';
import { ALONE, wholeParts, type TensorPart } from '../../parallel/index.js';
import { openRange, type Tensor } from '../../torch/index.js';
import type { UpdateOutcome, UpdateStart } from './parameter-store.js';
import type { Randomness } from './randomness.js';

export interface OptimizingStoreOptions {
  readonly optimizer: AdamW;
  readonly gate: Gate;
  /** Draws the stochastic rounding. */
  readonly randomness: Randomness;
  /** Global norm to clip to, or what finds it. @default none */
  readonly clipNorm?: number | AdaptiveClip | null | undefined;
  /** Looks at how far weights move. @default nobody does */
  readonly steps?: StepSizes | undefined;
}

/** The sums of an update, of all ranks unless it says otherwise; device tensors, fp32. */
export interface CompleteSums {
  /** What this rank updates, by name. */
  readonly gradients: ReadonlyMap<string, Tensor>;
  /** Squared norms of whole gradients (n), and the names that belong to them. */
  readonly squares: Tensor;
  readonly names: readonly string[];
  readonly lossSum: Tensor;
  /** Not 0 where the update is to be left out whatever its gradient is. @default it is not */
  readonly refused?: Tensor;
}

/** What the optimizer is told, with the flag on the device. */
export type GatedUpdate = AdamWUpdate & { readonly foundInf: Tensor };

export abstract class OptimizingStore {
  /** See `ParameterStore`. */
  isApplying = false;

  constructor(private readonly optimizing: OptimizingStoreOptions) {}

  /** Clips, updates unless something is not finite, and tells what it did. Within `noGrad`; the caller frees its tensors. */
  protected applyAll(
    { update, scheduleFactor, tokens, lossFactor }: UpdateStart,
    { gradients, squares, names, lossSum, refused }: CompleteSums,
  ): UpdateOutcome {
    const { gate, randomness, clipNorm = null, steps } = this.optimizing;
    const adaptive = clipNorm instanceof AdaptiveClip ? clipNorm : null;
    const limit =
      adaptive === null ? (clipNorm as number | null) : (norm: Tensor) => adaptive.limit(norm);
    const factor = gradientFactor(squares.sum(null), tokens, lossFactor, limit);
    const { foundInf: bad } = factor;
    const foundInf = gate.flag(refused === undefined ? bad : bad.maximum(refused));
    const step = steps?.before(update);
    this.update({
      ...{ gradients, scheduleFactor, foundInf },
      divisor: factor.divisor,
      rounding: (name) => randomness.ofRounding(update, name),
    });
    adaptive?.take(factor.norm, foundInf);
    gate.take(foundInf);
    return {
      lossSum,
      norm: factor.norm,
      foundInf: foundInf.reshape([1]),
      gates: [],
      tensorNorms: squares.sqrt().div(tokens.clamp(1).mul(lossFactor)),
      tensorNames: names,
      ...(step && { step: step() }),
    };
  }

  weightsRead(): void {}

  protected update(update: GatedUpdate): void {
    using _ = openRange('optimizer');
    this.isApplying = true;
    this.optimizing.optimizer.update(update);
  }

  /** Until parameters and optimizer are those after the latest update. */
  async settle(): Promise<void> {}

  /** Frees what an update held. */
  abstract clear(): void;

  state(): readonly TensorPart[] {
    return wholeParts(this.optimizing.optimizer.state(), ALONE);
  }

  dispose(): void {
    this.clear();
    this.optimizing.optimizer.dispose();
    this.optimizing.gate.dispose();
  }
}
