/**
 * One update: the micro-batches of an effective batch through the step program, then the optimizer, gated on the device.
 *
 * The loss is weighted by supervised tokens over the whole effective batch. Gradients accumulate as sums of token losses times
 * `2^power` (times the loss scale); the number of tokens, the scale and clipping make one factor that is applied once. Nothing is
 * read back: the numbers come as `LateNumbers`.
 */

import type { Batch, Steps } from '../../models/index.js';
import type { AdaptiveClip, Gate, LossScale, Schedule, StepOf } from '../../optim/index.js';
import {
  empty,
  full,
  hold,
  noGrad,
  openRange,
  scope,
  type Device,
  type Tensor,
} from '../../torch/index.js';
import { LateNumbers } from './late-numbers.js';
import type { ParameterStore, UpdateOutcome } from './parameter-store.js';
import { runMicroBatch, type Step, trainableIn } from './step.js';

/** What stays the same for all updates of a run. */
export interface UpdateSetup extends Omit<Step, 'lossFactor'> {
  readonly store: ParameterStore;
  /** In front of the optimizer; one that holds is opened by whoever reads the numbers. */
  readonly gate?: Gate;
  readonly device: Device;
  readonly schedule: Schedule;
  /** Where what to clip to is found as the run goes. */
  readonly clip?: AdaptiveClip;
  /** For fp16. */
  readonly lossScale?: LossScale;
  /** Exponent of the power of two on the sum of the losses; fixed for the run, equal on all ranks. @default 0 */
  readonly power?: number;
  /** More numbers to be read late beside those of the update, made of what it did. @default none */
  readonly measure?: (outcome: UpdateOutcome) => Readonly<Record<string, Tensor>>;
}

/** What the device knows of an update: see `UpdateOutcome`. */
export type UpdateNumbers =
  'lossSum' | 'norm' | 'foundInf' | 'tensorNorms' | 'byRank' | 'lossScale' | 'stepSize';

export interface UpdateResult {
  /** Counts from 0. */
  readonly update: number;
  /** What the schedule multiplied learning rates by. */
  readonly scheduleFactor: number;
  /** Supervised tokens of the effective batch. */
  readonly supervised: number;
  /** Segments that `foundInf` belongs to; none where the update was applied or left out as a whole. */
  readonly gates: readonly string[];
  /** Parameters that `tensorNorms` belong to. */
  readonly tensorNames: readonly string[];
  /** Of which weights `stepSize` tells how far they moved, of this rank. */
  readonly step: StepOf | null;
  /** Read them one update late. */
  readonly numbers: LateNumbers<UpdateNumbers>;
}

/** What all ranks know of the effective batch before they begin. */
export interface UpdateFacts {
  /** Supervised tokens. */
  readonly supervised: number;
  /** Whether any record has a picture. */
  readonly pictures: boolean;
}

/** The facts of one process's batches. */
export function factsOf(batches: readonly (Batch | null)[]): UpdateFacts {
  return {
    supervised: batches.reduce((sum, batch) => sum + (batch?.counts.supervised ?? 0), 0),
    pictures: batches.some((batch) => batch !== null && batch.images !== null),
  };
}

/**
 * Runs one update on the micro-batches of its effective batch, empty ones (`null`) included. Yields after each segment.
 *
 * @param facts of the batches of all ranks
 */
export function* runUpdate(
  setup: UpdateSetup,
  update: number,
  batches: readonly (Batch | null)[],
  { supervised, pictures }: UpdateFacts = factsOf(batches),
): Steps<UpdateResult> {
  const { device, store, lossScale, power = 0, measure } = setup;
  const scheduleFactor = setup.schedule(update);
  using constants = hold(() => {
    const options = { dtype: 'float32', device } as const;
    const fixed = full([], 2 ** power, options);
    return {
      tokens: full([], supervised, options),
      lossFactor: lossScale === undefined ? fixed : noGrad(() => fixed.mul(lossScale.scale)),
      lossSum: full([], 0, options),
    };
  });
  const { tokens, lossFactor, lossSum } = constants.value;
  const microBatches = batches.length;
  try {
    store.begin({ update, microBatches, scheduleFactor, tokens, lossFactor, pictures });
    const step = { ...setup, lossFactor, trainable: trainableIn(setup.model) };
    for (const batch of batches) {
      const loss = yield* runMicroBatch(step, setup.shortage?.error ? null : batch, update);
      if (loss === null) continue;
      noGrad(() => lossSum.add_(loss));
      loss.dispose();
    }
    using _ = openRange('optimizer');
    // Here ranks meet: loss sums, squared norms and flags of all of them come together before anything is decided.
    using finished = yield* store.finish(lossSum);
    return scope(() => {
      const outcome = finished.value;
      lossScale?.update(noGrad(() => outcome.foundInf.amax([])));
      const { norm, foundInf, gates, tensorNorms, tensorNames, step = null } = outcome;
      const numbers = new LateNumbers<UpdateNumbers>({
        ...measure?.(outcome),
        lossSum: outcome.lossSum,
        ...{ norm, foundInf, tensorNorms },
        byRank: outcome.byRank ?? empty([0], { dtype: 'float32', device }),
        stepSize: step?.ratio ?? empty([0], { dtype: 'float32', device }),
        lossScale: lossScale?.scale ?? lossFactor,
      });
      const of = step && { group: step.group, tensor: step.tensor };
      return { update, scheduleFactor, supervised, gates, tensorNames, step: of, numbers };
    });
  } finally {
    store.clear();
  }
}
