/** A run in the light of earlier ones on its card: predicted as they say, and kept for later ones once it has come to a good end. */

import type { PlannedFor, Predict, Prediction, TrainEvent } from '../../train/index.js';
import { cardOf } from '../devices/cards.js';
import { predict, type TimedPrediction } from '../predict.js';
import {
  isCardBound,
  kindOf,
  type Calibration,
  type MeasuredRun,
  type Versions,
} from './calibration.js';

interface Predicted {
  readonly run: PlannedFor;
  /** Without what earlier runs say: what this one is measured against. */
  readonly plain: TimedPrediction;
}

export class RunCalibration {
  private last: Predicted | null = null;
  private measured: Extract<TrainEvent, { type: 'memory' }> | null = null;
  /** Nothing went wrong on the way: no update ran again, nobody stopped it. */
  private isSound = true;
  private isOver = false;

  /** @param plan makes predictions by the table of cards */
  constructor(
    private readonly earlier: Calibration | undefined,
    private readonly plan: (run: PlannedFor) => Promise<TimedPrediction> = predict,
  ) {}

  /** For `train`. */
  readonly predict: Predict = async (run) => {
    const plain = await this.plan(run);
    this.last = { run, plain };
    return this.calibrated(run, plain);
  };

  see(event: TrainEvent): void {
    if (event.type === 'recovery' || event.type === 'diagnosis') this.isSound = false;
    if (event.type === 'memory') this.measured = event;
    if (event.type === 'end') this.isOver = event.reason !== 'dry-run';
  }

  /** What the run says for later ones; `null` for one that did not come to a good end, or has no card of its own. */
  result(versions: Versions, now = new Date()): MeasuredRun | null {
    const { last, measured } = this;
    if (!this.isSound || !this.isOver || last === null || measured === null) return null;
    const { run, plain } = last;
    const { total, reserved } = measured.measured;
    const time =
      measured.seconds === undefined || plain.time === null || !isCardBound(plain.time)
        ? null
        : measured.seconds.measured / plain.time.seconds;
    const context = total === undefined ? null : total - reserved;
    if (time === null && context === null) return null;
    return {
      at: now.toISOString(),
      card: run.device.name,
      ...versions,
      ranks: run.ranks,
      kind: kindOf(run.recipe),
      time,
      context,
    };
  }

  private calibrated(run: PlannedFor, { time, ...plain }: TimedPrediction): Prediction {
    if (this.earlier === undefined || plain.total === undefined) return plain;
    const { context, time: known } = this.earlier.of(cardOf(run.device), run.recipe, run.ranks);
    const isKnown = known !== null && time !== null && isCardBound(time);
    return {
      ...plain,
      ...(context !== null && { total: plain.reserved + context }),
      ...(isKnown && { seconds: time.seconds * known.factor, earlierRuns: known.runs }),
    };
  }
}
