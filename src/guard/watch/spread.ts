/** Median and MAD of the latest values of one kind: what is ordinary. Values that are not finite never enter. */

import { median } from '../../base/median.js';

/** Standard deviations in a MAD, for a normal distribution. */
const MAD_TO_SIGMA = 1.4826;

export class Spread {
  private readonly values: number[] = [];

  /** @param size how many values are remembered */
  constructor(private readonly size = 64) {}

  add(value: number): void {
    if (!Number.isFinite(value)) return;
    this.values.push(value);
    if (this.values.length > this.size) this.values.shift();
  }

  get count(): number {
    return this.values.length;
  }

  get median(): number {
    return median(this.values);
  }

  /** Robust standard deviations between a value and the median; a kind without spread counts as one of a hundredth of it. */
  distance(value: number): number {
    const middle = this.median;
    const mad = median(this.values.map((each) => Math.abs(each - middle)));
    return (
      (value - middle) / Math.max(MAD_TO_SIGMA * mad, 0.01 * Math.abs(middle), Number.MIN_VALUE)
    );
  }
}
