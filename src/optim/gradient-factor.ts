/**
 * The one factor between accumulated sums and the gradient that the optimizer sees.
 *
 * Gradients arrive as sums over tokens, times a power of two that is fixed for the run, times the loss scale. Dividing by the
 * number of supervised tokens, unscaling and clipping to a global norm are all multiplications, so they are one, computed on
 * the device: nothing is read back.
 *
 *     norm   = ||sums|| / (scale * tokens)
 *     factor = min(1, maxNorm / (norm + 1e-6)) / (scale * tokens)
 *
 * (Clipping as in `torch.nn.utils.clip_grad_norm_`.)
 */

import { _foreachNorm, empty, full, scope, stack, type Tensor } from '../torch/index.js';

export interface GradientFactor {
  /** What the accumulated sums are divided by: 1 / factor; a device scalar, fp32. */
  readonly divisor: Tensor;
  /** Norm of the gradient before clipping; a device scalar, fp32. */
  readonly norm: Tensor;
  /** 1 if the gradient is not finite, else 0; a device scalar, fp32. */
  readonly foundInf: Tensor;
}

/**
 * Squared norm of each of the named tensors (n), fp32, on the device of `like`; 0 for those that are not there. Of pieces of tensors on
 * several ranks they are added.
 */
export function squaredNorms(
  names: readonly string[],
  tensors: ReadonlyMap<string, Tensor>,
  like: Tensor,
): Tensor {
  if (names.length === 0) return empty([0], { dtype: 'float32', device: like.device });
  return scope(() => {
    const there = [...tensors.values()];
    const norms = there.length === 0 ? [] : _foreachNorm(there, 2, 'float32');
    const byName = new Map([...tensors.keys()].map((name, i) => [name, norms[i]!]));
    const none = full([], 0, { dtype: 'float32', device: like.device });
    return stack(names.map((name) => byName.get(name) ?? none)).square();
  });
}

/**
 * @param squares sum of squares of the accumulated sums, over all ranks
 * @param tokens supervised tokens of the effective batch, over all ranks; fp32
 * @param scale all scales that the sums carry; fp32
 * @param maxNorm global norm to clip to, or what says it of the norm (a device scalar); `null` for no clipping
 */
export function gradientFactor(
  squares: Tensor,
  tokens: Tensor,
  scale: Tensor,
  maxNorm: number | null | ((norm: Tensor) => Tensor),
): GradientFactor {
  return scope(() => {
    const denominator = tokens.clamp(1).mul(scale);
    const norm = squares.sqrt().div(denominator);
    const foundInf = norm.isfinite().logicalNot().to('float32');
    if (maxNorm === null) return { divisor: denominator.clone(), norm, foundInf };
    const limit = typeof maxNorm === 'number' ? norm.fullLike(maxNorm) : maxNorm(norm);
    const coefficient = limit.div(norm.add(1e-6)).clamp(null, 1);
    return { divisor: denominator.div(coefficient), norm, foundInf };
  });
}
