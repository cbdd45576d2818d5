/** Dropout with an explicit generator (Srivastava et al. 2014), so that a recomputed segment draws the same mask. */
import { empty, type RandomGenerator, scope, type Tensor } from '../torch/index.js';

/**
 * Zeroes each element with the given probability and divides the others by `1 - probability`.
 *
 * Without a generator, which is how a model is evaluated, and at probability 0 the result is `x` itself.
 */
export function dropout(x: Tensor, probability: number, generator?: RandomGenerator): Tensor {
  if (generator === undefined || probability === 0) return x;
  return scope(() => {
    const kept = empty(x.shape, { dtype: 'bool', device: x.device });
    kept.bernoulli_(1 - probability, { generator });
    return x.mul(kept).mul(1 / (1 - probability));
  });
}
