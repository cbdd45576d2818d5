/**
 * One update: the micro-batches of an effective batch through the step program, then the optimizer, gated on the device.
 *
 * The loss is weighted by supervised tokens over the whole effective batch. Gradients accumulate as sums of token losses times
 * `2^power` (times the loss scale); the number of tokens, the scale and clipping make one factor that is applied once. Nothing is
 * read back: the numbers come as `LateMetrics`.
 */

import type { Batch } from '../../models/index.js';
import {
  gradientFactor,
  squaredNorm,
  type AdamW,
  type GradientFactor,
  type LossScale,
  type Schedule,
} from '../../optim/index.js';
import { full, hold, noGrad, scope, type Device, type Tensor } from '../../torch/index.js';
import { GradientAccumulator } from './accumulator.js';
import { LateMetrics } from './late-metrics.js';
import { OPTIMIZER_STREAM, type Randomness } from './randomness.js';
import { runMicroBatch, type Step, type Steps } from './step.js';
import { UpdateInBackward } from './update-in-backward.js';

export interface UpdateSetup extends Pick<Step, 'model' | 'policies' | 'chunk'> {
  readonly device: Device;
  readonly optimizer: AdamW;
  readonly schedule: Schedule;
  readonly randomness: Randomness;
  /** Global norm to clip to. @default none */
  readonly clipNorm?: number | null;
  /** For fp16. */
  readonly lossScale?: LossScale;
  /** Exponent of the power of two on the sum of the losses; fixed for the run, equal on all ranks. @default 0 */
  readonly power?: number;
  /** Apply each segment's gradients as soon as they are there, and hold none. @default false */
  readonly updateInBackward?: boolean;
}

/** What the device knows of an update. */
export type UpdateNumbers = 'lossSum' | 'gradientNorm' | 'foundInf' | 'lossScale';

export interface UpdateResult {
  /** Counts from 0. */
  readonly update: number;
  /** Factor of the schedule. */
  readonly rate: number;
  /** Supervised tokens of the effective batch. */
  readonly supervised: number;
  /** Read them one update late. */
  readonly numbers: LateMetrics<UpdateNumbers>;
}

/** Runs one update on the micro-batches of its effective batch. Yields after each segment. */
export function* runUpdate(
  setup: UpdateSetup,
  update: number,
  batches: readonly Batch[],
): Steps<UpdateResult> {
  const { device, optimizer, lossScale, randomness } = setup;
  const supervised = batches.reduce((sum, batch) => sum + batch.counts.supervised, 0);
  const rate = setup.schedule(update);
  using constants = hold(() => {
    const options = { dtype: 'float32', device } as const;
    const fixed = full([], 2 ** (setup.power ?? 0), options);
    return {
      tokens: full([], supervised, options),
      seed: lossScale === undefined ? fixed : noGrad(() => fixed.mul(lossScale.scale)),
      lossSum: full([], 0, options),
    };
  });
  const { tokens, seed, lossSum } = constants.value;

  const store = setup.updateInBackward
    ? new UpdateInBackward(setup.model, { optimizer, rate, tokens, seed, randomness, update })
    : new GradientAccumulator(batches.length === 1 && !sharesParameters(setup.model));
  try {
    for (const [microBatch, batch] of batches.entries()) {
      const step = { ...setup, store, seed };
      const loss = yield* runMicroBatch(step, batch, { update, microBatch });
      noGrad(() => lossSum.add_(loss));
      loss.dispose();
    }
    return scope(() => {
      const factor =
        store instanceof UpdateInBackward
          ? store.outcome()
          : apply(setup, store, tokens, seed, rate, update);
      lossScale?.update(factor.foundInf);
      const numbers = new LateMetrics<UpdateNumbers>({
        lossSum,
        gradientNorm: factor.norm,
        foundInf: factor.foundInf,
        lossScale: lossScale?.scale ?? seed,
      });
      return { update, rate, supervised, numbers };
    });
  } finally {
    store.clear();
  }
}

function apply(
  { optimizer, clipNorm = null, randomness }: UpdateSetup,
  store: GradientAccumulator,
  tokens: Tensor,
  seed: Tensor,
  rate: number,
  update: number,
): GradientFactor {
  const { gradients } = store;
  const factor = noGrad(() =>
    gradientFactor(squaredNorm([...gradients.values()], tokens), tokens, seed, clipNorm),
  );
  const generator = randomness.of(OPTIMIZER_STREAM, { update, microBatch: 0 });
  optimizer.update({
    gradients,
    rate,
    divisor: factor.divisor,
    foundInf: factor.foundInf,
    generator,
  });
  return factor;
}

/** Whether a parameter belongs to several segments (tied embeddings). */
function sharesParameters({ segments, head }: UpdateSetup['model']): boolean {
  const names = [...segments, head].flatMap((segment) => [...segment.parameters().keys()]);
  return new Set(names).size < names.length;
}
