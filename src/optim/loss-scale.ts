/**
 * Dynamic loss scaling for fp16 (Micikevicius et al. 2018), kept on the device: the host never waits to learn the scale.
 *
 * After `window` finite updates in a row the scale doubles; a non-finite one uses up one unit of `hysteresis`, and when none
 * is left the scale halves (never below `minimum`). A finite update restores the hysteresis, as in DeepSpeed with
 * `consecutive_hysteresis`.
 */

import { full, noGrad, scope, where, zeros, type Device, type Tensor } from '../torch/index.js';

export interface LossScaleOptions {
  /** @default 65536 */
  initial?: number;
  /** Finite updates before the scale doubles. @default 1000 */
  window?: number;
  /** Non-finite updates in a row before the scale halves. @default 2 */
  hysteresis?: number;
  /** @default 1 */
  minimum?: number;
}

export class LossScale {
  /** The scale; a device scalar, fp32. */
  readonly scale: Tensor;
  private readonly finite: Tensor;
  private readonly left: Tensor;
  private readonly window: number;
  private readonly hysteresis: number;
  private readonly minimum: number;

  constructor(
    device: Device,
    { initial = 65536, window = 1000, hysteresis = 2, minimum = 1 }: LossScaleOptions = {},
  ) {
    const options = { dtype: 'float32', device } as const;
    this.scale = full([], initial, options).keep();
    this.finite = zeros([], options).keep();
    this.left = full([], hysteresis, options).keep();
    this.window = window;
    this.hysteresis = hysteresis;
    this.minimum = minimum;
  }

  /** Takes in the outcome of one update: `foundInf` is 1 if its gradient was not finite. */
  update(foundInf: Tensor): void {
    noGrad(() =>
      scope(() => {
        const bad = foundInf.gt(0);
        const left = where(bad, this.left.sub(1), this.left.fullLike(this.hysteresis));
        const halve = bad.logicalAnd(left.le(0));
        const finite = where(bad, this.finite.zerosLike(), this.finite.add(1));
        const double = finite.ge(this.window);
        const halved = this.scale.mul(0.5).clamp(this.minimum);
        this.scale.copy_(where(halve, halved, where(double, this.scale.mul(2), this.scale)));
        this.finite.copy_(where(double, finite.zerosLike(), finite));
        this.left.copy_(where(halve, left.fullLike(this.hysteresis), left));
      }),
    );
  }

  /** What a checkpoint must hold, by name. */
  state(): Map<string, Tensor> {
    return new Map([
      ['loss_scale.scale', this.scale],
      ['loss_scale.finite', this.finite],
      ['loss_scale.left', this.left],
    ]);
  }

  dispose(): void {
    for (const tensor of this.state().values()) tensor.dispose();
  }
}
