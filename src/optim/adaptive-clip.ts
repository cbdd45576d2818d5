/**
 * Clipping to what is ordinary for the run (ZClip; Kumar et al. 2025), kept on the device: mean and variance of the logarithm of the
 * gradient's norm, as exponential averages, say how far out a norm is.
 *
 *     z     = (ln norm - mean) / deviation
 *     limit = exp(mean + Z² / z · deviation)   where z > Z, else none
 *
 * A norm that is out enters the averages as one that is just not, and one that is not finite, or of an update that is left out, does not.
 * Until so many updates have been averaged the limit is 1, as it is by default.
 */

import { full, noGrad, scope, where, type Device, type Tensor } from '../torch/index.js';

/** Weight of what was before in an average. */
const KEEP = 0.97;
/** Deviations from which on a norm is out. */
const Z = 2.5;
const WARM_UP = 25;
/** Least deviation of the logarithm: a tenth of the norm. */
const FLOOR = 0.1;

export class AdaptiveClip {
  private readonly mean: Tensor;
  private readonly variance: Tensor;
  private readonly count: Tensor;

  constructor(device: Device) {
    const zero = (): Tensor => full([], 0, { dtype: 'float32', device }).keep();
    [this.mean, this.variance, this.count] = [zero(), zero(), zero()];
  }

  /** Largest norm that an update may have, for its own; a device scalar, fp32. */
  limit(norm: Tensor): Tensor {
    return scope(() => {
      const { mean, count } = this;
      const deviation = this.deviation();
      const z = norm.log().sub(mean).div(deviation);
      const out = mean.add(deviation.mul(Z * Z).div(z)).exp();
      const limit = where(z.gt(Z), out, norm.fullLike(Infinity));
      return where(count.lt(WARM_UP), norm.fullLike(1), limit);
    });
  }

  /** Takes in a norm, unless its update was left out (`foundInf` 1). */
  take(norm: Tensor, foundInf: Tensor): void {
    noGrad(() =>
      scope(() => {
        const { mean, variance, count } = this;
        const log = norm.clamp(1e-30).log();
        const warm = count.ge(WARM_UP);
        const most = mean.add(this.deviation().mul(Z));
        const taken = where(warm, where(log.gt(most), most, log), log);
        // The first ones count alike.
        const weight = count
          .fullLike(1)
          .div(count.add(1))
          .clamp(1 - KEEP);
        const from = taken.sub(mean);
        const newMean = mean.add(from.mul(weight));
        const newVariance = variance.add(from.mul(taken.sub(newMean)).sub(variance).mul(weight));
        const good = foundInf.le(0).logicalAnd(log.isfinite());
        mean.copy_(where(good, newMean, mean));
        variance.copy_(where(good, newVariance, variance));
        count.copy_(where(good, count.add(1), count));
      }),
    );
  }

  private deviation(): Tensor {
    return this.variance.clamp(FLOOR * FLOOR).sqrt();
  }

  /** What a checkpoint must hold, by name. */
  state(): Map<string, Tensor> {
    return new Map([
      ['adaptive_clip.mean', this.mean],
      ['adaptive_clip.variance', this.variance],
      ['adaptive_clip.count', this.count],
    ]);
  }

  dispose(): void {
    for (const each of this.state().values()) each.dispose();
  }
}
