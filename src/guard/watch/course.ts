/**
 * The course of a run so far: loss and gradient norm of its updates, with what is ordinary for each kind of batch. Batches with and
 * without pictures, and of like length, are kinds of their own: a group of pure text whose loss is low is no fault.
 */

import type { UpdateEvent } from '../../train/index.js';
import { median, Spread } from './spread.js';

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
/** Updates that are remembered one by one. */
const REMEMBERED = 256;

export interface Passed {
  readonly update: number;
  readonly loss: number;
  readonly norm: number;
}

interface Ordinary {
  readonly loss: Spread;
  readonly norm: Spread;
}

export class Course {
  private readonly kinds = new Map<string, Ordinary>();
  private readonly updates: Passed[] = [];
  private rising = 0;
  private lowest = Infinity;

  /** @param uniform loss of a model that knows nothing, ln V */
  constructor(private readonly uniform: number) {}

  /** Takes in an update. @returns whether the loss has risen, and stays, where it should not be */
  add({ update, loss, gradientNorm: norm, skipped, counts }: UpdateEvent): boolean {
    if (skipped || loss === null || !Number.isFinite(loss)) return false;
    const kind = this.kindOf(counts);
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
    return this.rising === IN_ROW;
  }

  private kindOf({ images, tokens, sequences }: UpdateEvent['counts']): Ordinary {
    const length = Math.round(Math.log2(Math.max(1, tokens / Math.max(1, sequences))));
    const key = `${images > 0 ? 'pictures' : 'text'} of 2^${length}`;
    let kind = this.kinds.get(key);
    if (kind === undefined) {
      kind = { loss: new Spread(), norm: new Spread() };
      this.kinds.set(key, kind);
    }
    return kind;
  }

  /** The updates that were applied, oldest first, as far as they are remembered. */
  get passed(): readonly Passed[] {
    return this.updates;
  }

  /** How the last updates stand to the best before: see `Trend`. */
  trend(): Trend | null {
    const { updates } = this;
    if (updates.length < 2) return null;
    const losses = updates.map((each) => each.loss);
    const norms = updates.map((each) => each.norm);
    const best = lowestRun(losses);
    const at = updates[best]!;
    const after = updates.slice(best + 1);
    const before = norms.slice(0, best + 1);
    const ordinary = median(before);
    const outlier = after.find(({ norm }) => norm > 30 * ordinary) ?? null;
    return {
      best: at,
      worst: after.reduce((a, b) => (b.loss > a.loss ? b : a), at),
      ordinaryNorm: ordinary,
      outlier: before.length >= 5 ? outlier : null,
      largestNorm: Math.max(...norms),
      uniform: this.uniform,
    };
  }
}

/** How a run went wrong, in numbers. */
export interface Trend {
  readonly best: Passed;
  /** The highest loss after it. */
  readonly worst: Passed;
  /** Median norm of the gradient up to the best. */
  readonly ordinaryNorm: number;
  /** The first update after it whose norm was more than 30 times that. */
  readonly outlier: Passed | null;
  readonly largestNorm: number;
  readonly uniform: number;
}

/** Where the smallest loss is. */
function lowestRun(losses: readonly number[]): number {
  return losses.reduce((least, loss, i) => (loss < losses[least]! ? i : least), 0);
}
