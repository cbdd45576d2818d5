/**
 * The course of a run so far: loss and gradient norm of its updates, with what is ordinary for each kind of batch. Batches with and
 * without pictures, and of like length, are kinds of their own: a group of pure text whose loss is low is no fault.
 */

import { median } from '../../base/median.js';
import type { UpdateEvent } from '../../train/index.js';
import { Spread } from './spread.js';

/** Updates of a kind before one is out of the ordinary. */
const WARM_UP = 20;
/** Updates in a row that make a rise. */
const IN_ROW = 3;
/** Robust standard deviations from the median. */
const FAR = 8;
/** And times the median: a loss of 0.01 that becomes 0.02 is no harm. */
const TIMES = 2;
/** Times the loss of knowing nothing: worse than that is no start. */
const WORSE = 1.25;
/** Updates in a row that are far above the first one of their kind, and how far that is beside `TIMES`, before a loss has left it. */
const LEFT_IN_ROW = 16;
const LEFT_BY = 0.5;
/** Updates that are remembered one by one. */
const REMEMBERED = 256;

interface Passed {
  readonly update: number;
  readonly loss: number;
  readonly norm: number;
}

interface Ordinary {
  /** Loss of the first update. */
  readonly began: number;
  readonly loss: Spread;
  readonly norm: Spread;
}

export class Course {
  private readonly kinds = new Map<string, Ordinary>();
  /** Those that were applied, oldest first. */
  private readonly updates: Passed[] = [];
  private rising = 0;
  private above = 0;
  private lowest = Infinity;
  private began = 0;

  /** @param uniform loss of a model that knows nothing, ln V */
  constructor(private readonly uniform: number) {}

  /** Takes in an update. @returns whether the loss has risen, and stays, where it should not be */
  add({ update, loss, gradientNorm: norm, skipped, counts }: UpdateEvent): boolean {
    if (skipped || loss === null || !Number.isFinite(loss)) return false;
    const kind = this.kindOf(counts, loss);
    const far =
      kind.loss.count >= WARM_UP &&
      kind.loss.distance(loss) > FAR &&
      loss > TIMES * kind.loss.median;
    // Worse than knowing nothing, after it was better.
    const lost = loss > WORSE * this.uniform && this.lowest <= WORSE * this.uniform;
    this.rising = far || lost ? this.rising + 1 : 0;
    // What is far out would become ordinary.
    if (!far) {
      kind.loss.add(loss);
      kind.norm.add(norm);
    }
    this.updates.push({ update, loss, norm });
    if (this.updates.length > REMEMBERED) this.updates.shift();
    this.lowest = Math.min(this.lowest, loss);
    this.above = loss > Math.max(TIMES * kind.began, kind.began + LEFT_BY) ? this.above + 1 : 0;
    this.began = kind.began;
    return this.rising === IN_ROW;
  }

  /** Whether losses have left where they began, and stay away: also before what is ordinary is known, and below the loss of knowing nothing. */
  get left(): Left | null {
    if (this.above < LEFT_IN_ROW) return null;
    return {
      began: this.began,
      now: median(this.updates.slice(-LEFT_IN_ROW).map(({ loss }) => loss)),
    };
  }

  private kindOf({ images, tokens, sequences }: UpdateEvent['counts'], loss: number): Ordinary {
    const length = Math.round(Math.log2(Math.max(1, tokens / Math.max(1, sequences))));
    const key = `${images > 0 ? 'pictures' : 'text'} of 2^${length}`;
    let kind = this.kinds.get(key);
    if (kind === undefined) {
      kind = { began: loss, loss: new Spread(), norm: new Spread() };
      this.kinds.set(key, kind);
    }
    return kind;
  }

  /** How the updates since the best ones stand to these: see `Trend`. */
  trend(): Trend | null {
    const { updates } = this;
    if (updates.length < 2) return null;
    const smooth = smoothed(updates.map((each) => each.loss));
    const best = indexOf(smooth, (a, b) => a < b);
    const worst = best + indexOf(smooth.slice(best), (a, b) => a > b);
    const before = updates.slice(0, best + 1).map(({ norm }) => norm);
    const after = updates.slice(best + 1);
    const ordinary = median(before);
    const outlier = after.find(({ norm }) => norm > 30 * ordinary) ?? null;
    return {
      best: { ...updates[best]!, loss: smooth[best]! },
      worst: { ...updates[worst]!, loss: smooth[worst]! },
      ordinaryNorm: ordinary,
      outlier: before.length >= 5 ? outlier : null,
      laterNorm: after.length === 0 ? ordinary : median(after.map(({ norm }) => norm)),
      uniform: this.uniform,
    };
  }
}

/** Losses that have left where they began. */
export interface Left {
  /** First loss of the kind of the latest update. */
  readonly began: number;
  /** Median of the latest. */
  readonly now: number;
}

/** How a run went wrong, in numbers. */
export interface Trend {
  /** By the median of neighbours. */
  readonly best: Passed;
  /** The highest loss after it. */
  readonly worst: Passed;
  /** Median norm of the gradient up to the best. */
  readonly ordinaryNorm: number;
  /** The first update after it whose norm was more than 30 times that. */
  readonly outlier: Passed | null;
  /** Median norm after it. */
  readonly laterNorm: number;
  readonly uniform: number;
}

/** Medians over a few neighbours; of a short run each by itself. */
function smoothed(values: readonly number[]): number[] {
  const reach = Math.min(3, Math.floor(values.length / 6));
  return values.map((_, i) => median(values.slice(Math.max(0, i - reach), i + reach + 1)));
}

/** Where the value is that comes before all others. */
function indexOf(values: readonly number[], before: (a: number, b: number) => boolean): number {
  return values.reduce((first, value, i) => (before(value, values[first]!) ? i : first), 0);
}
