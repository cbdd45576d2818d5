/** Validation: the mean loss of the supervised tokens of data that are not trained on, and when to stop waiting for a better one. */

import {
  forward,
  walk,
  drive,
  type Batch,
  type Residency,
  type SegmentedModel,
  type Steps,
} from '../../models/index.js';
import {
  full,
  hold,
  noGrad,
  scope,
  type Device,
  type Holding,
  type Tensor,
} from '../../torch/index.js';
import type { Ranks } from '../run/ranks.js';

export interface ValidationLoss {
  /** NaN where no token was supervised. */
  readonly loss: number;
  readonly supervised: number;
}

export interface ValidationOptions {
  readonly device: Device;
  /** Rows of logits that are held at once. */
  readonly chunk: number;
  readonly residency: Residency;
  /** Those that have the other batches. */
  readonly ranks: Ranks;
}

/** @param parts batches of this rank on the device, `null` for empty ones; freed after their use */
export async function validationLoss(
  model: SegmentedModel,
  parts: AsyncIterable<Holding<readonly (Batch | null)[]>>,
  { ranks, ...options }: ValidationOptions,
): Promise<ValidationLoss> {
  using own = await ownLosses(model, parts, options);
  const { sum, supervised } = own;
  const all = await ranks.gather('validation', { sum: sum.item(), supervised });
  const total = (of: (each: (typeof all)[number]) => number): number =>
    all.reduce((before, each) => before + of(each), 0);
  const tokens = total((each) => each.supervised);
  return { loss: total((each) => each.sum) / tokens, supervised: tokens };
}

/** Of one rank. */
interface OwnLosses extends Disposable {
  /** Of the losses of its supervised tokens; a device scalar, fp32. */
  readonly sum: Tensor;
  readonly supervised: number;
}

/** All of a validation that the device does; nothing is read back. The caller disposes of it. */
export async function ownLosses(
  model: SegmentedModel,
  parts: AsyncIterable<Holding<readonly (Batch | null)[]>>,
  { device, ...options }: Omit<ValidationOptions, 'ranks'>,
): Promise<OwnLosses> {
  const sum = full([], 0, { dtype: 'float32', device }).keep();
  let supervised = 0;
  try {
    for await (const part of parts) {
      using batches = part;
      for (const batch of batches.value) {
        const losses = await drive(evaluate(model, batch, options));
        if (batch === null || losses === null) continue;
        noGrad(() => scope(() => sum.add_(losses.sum(null))));
        losses.dispose();
        supervised += batch.counts.supervised;
      }
    }
  } catch (error) {
    sum.dispose();
    throw error;
  }
  return {
    sum,
    supervised,
    [Symbol.dispose]() {
      sum.dispose();
    },
  };
}

/**
 * @returns the losses of the supervised tokens (L), fp32, without dropout; the caller owns them; `null` for an empty batch, of which
 *   the visits alone are made. Yields after each segment.
 */
function* evaluate(
  model: SegmentedModel,
  batch: Batch | null,
  { chunk, residency }: Pick<ValidationOptions, 'chunk' | 'residency'>,
): Steps<Tensor | null> {
  if (batch === null) {
    const visits = [...model.segments, model.head];
    yield* walk(visits, { phase: 'forward', residency }, () => undefined);
    return null;
  }
  using inputs = hold(() => noGrad(() => model.inputs(batch)));
  const { head } = model;
  using last = yield* forward(model, inputs.value, { residency });
  let losses: Tensor | null = null;
  yield* walk([head], { phase: 'forward', residency }, () => {
    losses = noGrad(() => scope(() => head.losses(last, batch.supervised, { chunk }).losses));
  });
  return losses;
}

export interface EarlyStoppingState {
  readonly best: number | null;
  /** Validations since the best. */
  readonly since: number;
}

/** The best validation loss or score so far, and whether there were too many without a better one. */
export class EarlyStopping {
  best: number | null = null;
  private since = 0;

  constructor(
    private readonly patience = Infinity,
    private readonly minimumImprovement = 0,
    private readonly wanted: 'lowest' | 'highest' = 'lowest',
  ) {}

  /** @returns whether the value is the best so far */
  add(value: number): boolean {
    const { best } = this;
    const sign = this.wanted === 'lowest' ? 1 : -1;
    const gain = best === null ? Infinity : sign * (best - value);
    const improved = Number.isFinite(value) && gain > 0;
    const counts = improved && gain > this.minimumImprovement;
    if (improved) this.best = value;
    this.since = counts ? 0 : this.since + 1;
    return improved;
  }

  /** Whether there were as many validations without an improvement as the patience allows. */
  get exhausted(): boolean {
    return this.since >= this.patience;
  }

  state(): EarlyStoppingState {
    return { best: this.best, since: this.since };
  }

  restore({ best, since }: EarlyStoppingState): void {
    this.best = best;
    this.since = since;
  }
}
