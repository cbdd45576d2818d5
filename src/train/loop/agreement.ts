/**
 * What ranks agree on while a run goes: before each update they tell each other what they have loaded and whether they were told
 * to stop, so that all of them run it, or none. A process alone is stopped wherever it waits.
 */

import { toPlain, type PlainError } from '../../base/plain-error.js';
import type { Exchange, ShareFacts } from '../../data/index.js';
import type { Agree, Each } from '../../generate/index.js';
import { errorOfRank, makeCommon, together } from '../../parallel/index.js';
import type { Ranks } from '../run/ranks.js';

/** What a rank tells before an update. */
interface Told {
  readonly share: Omit<ShareFacts, 'error'> | null;
  readonly error: PlainError | null;
  readonly stop: boolean;
  readonly peakBytes: number;
  readonly saved: number;
  readonly wished: number;
}

export interface AgreementOptions {
  /** That this rank was told to stop. */
  readonly signal?: AbortSignal | undefined;
  /** Most bytes that the device of this rank has given out. */
  readonly peakBytes: () => number;
  /** How many checkpoints have come to an end on this rank. */
  readonly saved: () => number;
  /** How many times this rank was asked for a checkpoint. @default never */
  readonly wished?: (() => number) | undefined;
}

export class Agreement {
  /** Raised when the run stops: on all ranks at the same place of the program. */
  readonly signal: AbortSignal | undefined;
  /** Most bytes given out by each rank, as it told last. */
  peaks: readonly number[] = [];
  private savedByAll = 0;
  private wishedByAny = 0;
  private readonly stop = new AbortController();

  constructor(
    private readonly ranks: Ranks,
    private readonly options: AgreementOptions,
  ) {
    this.signal = ranks.size === 1 ? options.signal : this.stop.signal;
  }

  /** That this rank was told to stop, of which others may not know yet. */
  get own(): AbortSignal | undefined {
    return this.options.signal;
  }

  /** What the loader of data tells and hears. @throws the signal's reason, once it is raised */
  readonly exchange: Exchange = async (own) => {
    const { error, ...share } = own;
    const told = await this.tell({ share, error: error === undefined ? null : toPlain(error) });
    this.signal?.throwIfAborted();
    return told.map((each, rank) => {
      if (each.error === null) return each.share!;
      const isOwn = rank === this.ranks.rank;
      return { ...each.share!, error: isOwn ? makeCommon(error) : errorOfRank(rank, each.error) };
    });
  };

  /** How many checkpoints have come to an end: of several ranks on all, as they told last. */
  get saved(): number {
    return this.ranks.size === 1 ? this.options.saved() : this.savedByAll;
  }

  /** How many times a checkpoint was asked for: of several ranks on the one with the most, as they told last. */
  get wished(): number {
    return this.ranks.size === 1 ? (this.options.wished?.() ?? 0) : this.wishedByAny;
  }

  /** For answers: a step of each rank, and what it gave on all. Tells also whether to stop. */
  readonly each: Each = async (step) => {
    const all = await together(this.ranks, 'answer', step);
    await this.settle();
    return all;
  };

  /** For answers that all ranks give together: what a step gave on the first one counts. */
  readonly agree: Agree = async (step) => (await this.each(step))[0]!;

  /** Asks the others whether they were told to stop. */
  async settle(): Promise<void> {
    if (this.ranks.size > 1) await this.tell({ share: null, error: null });
  }

  private async tell(own: Pick<Told, 'share' | 'error'>): Promise<readonly Told[]> {
    const { signal, peakBytes, saved, wished } = this.options;
    const stop = signal?.aborted === true;
    const facts = { stop, peakBytes: peakBytes(), saved: saved(), wished: wished?.() ?? 0 };
    const told: Told = { ...own, ...facts };
    const all = await this.ranks.gather('facts of the update', told);
    this.peaks = all.map((each) => each.peakBytes);
    this.savedByAll = Math.min(...all.map((each) => each.saved));
    this.wishedByAny = Math.max(...all.map((each) => each.wished));
    const stopped = all.findIndex((each) => each.stop);
    if (stopped >= 0 && !this.stop.signal.aborted) {
      this.stop.abort(stop ? signal.reason : new Error(`rank ${stopped} was told to stop`));
    }
    return all;
  }
}
