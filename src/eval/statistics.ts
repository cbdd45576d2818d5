/** How sure a score is: intervals, and whether one model is better than another on the same questions. */
import { setImmediate } from 'node:timers/promises';

/** Lower and upper end, at 95 %. */
export type Interval = readonly [number, number];

/** 97.5 % quantile of the normal distribution. */
const Z = 1.959963984540054;

/** Wilson's interval (1927) of a share: `right` of `n`, which is at least 1. */
export function wilson(right: number, n: number): Interval {
  const share = right / n;
  const centre = share + Z ** 2 / (2 * n);
  const half = Z * Math.sqrt((share * (1 - share)) / n + Z ** 2 / (4 * n ** 2));
  const scale = 1 + Z ** 2 / n;
  // Rounding must not leave 0 and 1 outside.
  return [right === 0 ? 0 : (centre - half) / scale, right === n ? 1 : (centre + half) / scale];
}

export interface BootstrapOptions {
  /** @default 1000 */
  draws?: number;
  /** @default 0 */
  seed?: number;
  signal?: AbortSignal | undefined;
}

/**
 * The percentile bootstrap (Efron 1979): the statistic of as many units as there are, drawn with replacement, again and again. Others have
 * their turn after each draw, of which one may take long.
 *
 * @param strata units that are drawn among themselves, as many as they are
 * @throws the signal's reason
 */
export async function bootstrap<T>(
  strata: readonly (readonly T[])[],
  statistic: (drawn: readonly T[]) => number,
  { draws = 1000, seed = 0, signal }: BootstrapOptions = {},
): Promise<Interval> {
  const random = mulberry32(seed);
  const values: number[] = [];
  while (values.length < draws) {
    const drawn: T[] = [];
    for (const units of strata) {
      for (let i = 0; i < units.length; i++)
        drawn.push(units[Math.floor(random() * units.length)]!);
    }
    values.push(statistic(drawn));
    await setImmediate();
    signal?.throwIfAborted();
  }
  values.sort((a, b) => a - b);
  const at = (share: number): number => values[Math.round(share * (draws - 1))]!;
  return [at(0.025), at(0.975)];
}

/**
 * McNemar's exact test (1947): how probable at least so uneven a split of the questions that only one of two models answers
 * rightly is, if both were equally good. Two-sided.
 */
export function mcnemar(onlyFirst: number, onlySecond: number): number {
  const n = onlyFirst + onlySecond;
  const fewer = Math.min(onlyFirst, onlySecond);
  // log of n choose k over 2^n, from k to k + 1
  let term = -n * Math.LN2;
  let tail = 0;
  for (let k = 0; k <= fewer; k++) {
    tail += Math.exp(term);
    term += Math.log((n - k) / (k + 1));
  }
  return Math.min(1, 2 * tail);
}

/** Numbers from 0 to below 1 (Ettinger's Mulberry32). */
function mulberry32(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
