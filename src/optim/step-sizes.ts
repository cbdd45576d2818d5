/**
 * How far updates move weights: `||w' - w|| / ||w||` of a piece of one tensor, of the optimizer's groups in turn and of each another tensor
 * every time. A piece costs five small kernels, and stands for the group: Adam moves all weights about as far.
 */

import { _foreachNorm, noGrad, type Tensor } from '../torch/index.js';
import type { AdamW } from './adamw.js';

/** Weights of a piece, at most. */
const PIECE = 2 ** 16;
/** These begin at 0, where every step is large. */
const FROM_ZERO = /bias$|lora_B/;

/** Whose step it is. */
export interface StepOf {
  readonly group: string;
  readonly tensor: string;
}

export interface StepSize extends StepOf {
  /** A device scalar, fp32; infinite where the weights were 0. */
  readonly ratio: Tensor;
}

export class StepSizes {
  private readonly groups: readonly (readonly StepOf[])[];

  constructor(private readonly optimizer: Pick<AdamW, 'groups' | 'weights'>) {
    this.groups = optimizer.groups
      .map(({ name: group, parameters }) =>
        [...parameters]
          .filter(([tensor, { numel }]) => numel > 0 && !FROM_ZERO.test(tensor))
          .map(([tensor]) => ({ group, tensor })),
      )
      .filter((tensors) => tensors.length > 0);
  }

  /**
   * Looks at a piece before an update.
   *
   * @param update counts from 0
   * @returns what gives its step once weights have changed, whose tensors the caller frees; `null` where nothing is looked at
   */
  before(update: number): (() => StepSize) | null {
    const { groups } = this;
    if (groups.length === 0) return null;
    const tensors = groups[update % groups.length]!;
    const of = tensors[Math.floor(update / groups.length) % tensors.length]!;
    const weights = this.optimizer.weights(of.tensor);
    const count = Math.min(PIECE, weights.numel);
    const from = Math.floor((weights.numel - count) / 2);
    const piece = (): Tensor => weights.detach().reshape([-1]).narrow(0, from, count);
    return noGrad(() => {
      const then = piece().clone().to('float32');
      return () => {
        const [moved, were] = _foreachNorm([piece().to('float32').sub(then), then], 2, 'float32');
        return { ...of, ratio: moved!.div(were!) };
      };
    });
  }
}
