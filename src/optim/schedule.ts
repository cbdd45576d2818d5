/**
 * Learning-rate schedules: a factor for each update. Everything counts updates (optimizer steps), never micro-batches.
 *
 * Linear warm-up from 0, then cosine to 0, linear to 0, or constant, as in transformers' `get_*_schedule_with_warmup`.
 */

import { UsageError } from '../base/errors.js';

export type ScheduleShape = 'cosine' | 'linear' | 'constant';

export interface ScheduleOptions {
  /** @default 'cosine' */
  shape?: ScheduleShape;
  /** Updates of the whole run. */
  updates: number;
  /** Updates during which the rate rises linearly from 0. @default 0 */
  warmup?: number;
  /** Where cosine and linear end, as a part of the full rate. @default 0 */
  floor?: number;
}

/** `update -> factor` of the learning rate; updates count from 0. */
export type Schedule = (update: number) => number;

/** @throws UsageError `E_SCHEDULE` for numbers that make no schedule. */
export function schedule({
  shape = 'cosine',
  updates,
  warmup = 0,
  floor = 0,
}: ScheduleOptions): Schedule {
  if (!Number.isInteger(updates) || updates < 1 || !(warmup >= 0) || !(floor >= 0 && floor <= 1)) {
    throw new UsageError(
      `no schedule of ${updates} updates with a warm-up of ${warmup} and a floor of ${floor}`,
      {
        code: 'E_SCHEDULE',
        hint: 'Give at least one update, a warm-up from 0 and a floor from 0 to 1.',
      },
    );
  }
  return (update) => {
    if (update < warmup) return update / Math.max(1, warmup);
    if (shape === 'constant') return 1;
    const progress = Math.min(1, (update - warmup) / Math.max(1, updates - warmup));
    const falling = shape === 'cosine' ? 0.5 * (1 + Math.cos(Math.PI * progress)) : 1 - progress;
    return floor + (1 - floor) * falling;
  };
}

/** Updates of warm-up from a part of the run: `ceil(ratio * updates)`, as transformers rounds it. */
export function warmupUpdates(ratio: number, updates: number): number {
  return Math.ceil(ratio * updates);
}
