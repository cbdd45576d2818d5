/**
 * Stochastic rounding from fp32 to bf16: up or down with probabilities by distance, so that small updates are not lost on
 * average (Zamirai et al. 2020). bf16 is the upper half of fp32: adding 16 random bits below and cutting them off does it.
 */

import { where, type RandomGenerator, type Tensor } from '../torch/index.js';

/** Writes `source` (fp32) into `target` (bf16), rounding each element at random. Infinities and NaN are kept. */
export function copyStochastic_(target: Tensor, source: Tensor, generator: RandomGenerator): void {
  const noise = source.viewAs('int32').emptyLike().random_(0, 65536, { generator });
  const rounded = source.viewAs('int32').add(noise).bitwiseAnd(-65536).viewAs('float32');
  target.copy_(where(source.isfinite(), rounded, source));
}
