/**
 * A parameter store that applies each segment's gradients at once and holds none (LOMO; Lv et al. 2023, here with AdamW).
 *
 * The factor must be known before the backward ends: the number of tokens is, the global norm is not. So this excludes accumulation,
 * global clipping and fp16 scaling; a finiteness gate per segment stands in. A parameter that several segments share is updated
 * once, after its last gradient was added.
 */

import type { SegmentBase, SegmentedModel } from '../../models/index.js';
import { squaredNorm, type AdamW, type GradientFactor } from '../../optim/index.js';
import { noGrad, scope, type Tensor } from '../../torch/index.js';
import type { ParameterStore, Phase, SegmentGradients } from './parameter-store.js';
import { OPTIMIZER_STREAM, type Randomness } from './randomness.js';

export interface ImmediateUpdate {
  readonly optimizer: AdamW;
  readonly rate: number;
  readonly tokens: Tensor;
  readonly seed: Tensor;
  readonly randomness: Randomness;
  readonly update: number;
}

export class UpdateInBackward implements ParameterStore {
  /** Sums of parameters that wait for a further segment. */
  private readonly waiting = new Map<string, Tensor>();
  /** Segments whose gradient each parameter still waits for. */
  private readonly missing = new Map<string, number>();
  private readonly divisor: Tensor;
  private readonly squares: Tensor;
  private readonly foundInf: Tensor;
  private segment = 0;

  constructor(
    model: SegmentedModel,
    private readonly context: ImmediateUpdate,
  ) {
    for (const segment of [...model.segments, model.head]) {
      for (const name of segment.parameters().keys())
        this.missing.set(name, (this.missing.get(name) ?? 0) + 1);
    }
    const { tokens, seed } = context;
    this.divisor = noGrad(() => scope(() => tokens.clamp(1).mul(seed))).keep();
    this.squares = tokens.zerosLike().keep();
    this.foundInf = tokens.zerosLike().keep();
  }

  acquire(_segment: SegmentBase, _phase: Phase): void {}
  prefetch(_segment: SegmentBase): void {}
  release(_segment: SegmentBase): void {}

  accept(_segment: SegmentBase, gradients: SegmentGradients): void {
    const ready = new Map<string, Tensor>();
    for (const [name, gradient] of gradients) {
      const left = this.missing.get(name)! - 1;
      this.missing.set(name, left);
      const sum = this.added(this.waiting.get(name), gradient);
      if (sum === null) continue;
      if (left > 0) {
        this.waiting.set(name, sum.keep());
      } else {
        this.waiting.delete(name);
        ready.set(name, sum);
      }
    }
    if (ready.size > 0) this.apply(ready);
    for (const gradient of ready.values()) gradient.dispose();
  }

  private added(sum: Tensor | undefined, gradient: Tensor | null): Tensor | null {
    if (sum === undefined || gradient === null) return sum ?? gradient;
    const total = noGrad(() => scope(() => sum.to('float32').add(gradient)));
    sum.dispose();
    gradient.dispose();
    return total;
  }

  private apply(gradients: ReadonlyMap<string, Tensor>): void {
    const { optimizer, rate, randomness, update, tokens } = this.context;
    noGrad(() =>
      scope(() => {
        const squares = squaredNorm([...gradients.values()], tokens);
        const foundInf = squares.isfinite().logicalNot().to('float32');
        const generator = randomness.of(OPTIMIZER_STREAM + this.segment++, {
          update,
          microBatch: 0,
        });
        optimizer.update({ gradients, rate, divisor: this.divisor, foundInf, generator });
        this.squares.add_(squares);
        this.foundInf.copy_(this.foundInf.maximum(foundInf));
      }),
    );
  }

  /** The norm over all segments, and whether any of them was left out. */
  outcome(): GradientFactor {
    const { divisor, foundInf } = this;
    return noGrad(() => ({ divisor, foundInf, norm: this.squares.sqrt().div(divisor) }));
  }

  clear(): void {
    for (const tensor of [...this.waiting.values(), this.divisor, this.squares, this.foundInf])
      tensor.dispose();
    this.waiting.clear();
  }
}
