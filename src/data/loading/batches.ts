/**
 * The batches of a run: planned, loaded ahead within bounds, in order. How many threads load them changes nothing but time.
 *
 * While an update is worked on, the next one is loaded: at most two updates (or twice what the threads hold) are in memory.
 * Of several ranks each loads its share, and they tell each other what it was, once an update.
 */
import type { Cursor, OrderFacts, PlannedUpdate } from '../sampling/plan.js';
import { rejectionError, type RejectedRecord } from '../sources/place.js';
import { EpochCheck } from './epoch-check.js';
import { deal, type Cut } from './deal.js';
import type { Executor } from './executor.js';
import { microBatch, sumCounts, type DataCounts, type MicroBatch } from './micro-batch.js';
import { pack, type Budget } from './pack.js';
import type { LoadedSample, LoadOutcome } from './record-loader.js';

/** A sample that has warnings. */
export type OddSample = Required<Pick<LoadedSample, 'place' | 'id' | 'warnings'>>;

/** What is told of the share of one rank; plain but for `error`. */
export interface ShareFacts {
  readonly counts: DataCounts;
  /** Micro-batches of it, before empty ones make them as many as those of other ranks. */
  readonly steps: number;
  /** Records that are left out, each time they come. */
  readonly rejected: readonly RejectedRecord[];
  readonly odd: readonly OddSample[];
  /** Milliseconds that were waited for it. */
  readonly waitedMs: number;
  /** Why there is none. */
  readonly error?: unknown;
}

/** What one update is made of. */
export interface UpdateData extends Omit<ShareFacts, 'error' | 'steps'> {
  readonly epoch: number;
  /** Of this rank, as many as any has; all else is of all ranks together, and the wait that of the slowest. */
  readonly microBatches: readonly MicroBatch[];
  /** By rank. */
  readonly shares: readonly ShareFacts[];
  /** Where to go on after this update. */
  readonly cursor: Cursor;
}

/** Tells all ranks what one has, and gives what each has told, by rank; in step on all of them. */
export type Exchange = (own: ShareFacts) => Promise<readonly ShareFacts[]>;

export interface LoadUpdatesOptions {
  readonly executor: Executor;
  readonly badRecords: 'stop' | 'skip';
  /** Of what the order is made, for cursors. */
  readonly order: OrderFacts;
  readonly cut: Cut;
  /** What each micro-batch holds at most, where a rank packs its share into as few as it can. @default as the cut has them */
  readonly budget?: Budget | undefined;
  /** @default 0 */
  readonly rank?: number | undefined;
  /** Needed where there are several ranks. @default this rank is alone */
  readonly exchange?: Exchange | undefined;
  /** Tokens of all records by their numbers, negative without images. @default measured as they come */
  readonly lengths?: Int32Array | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An outcome, or why there is none. */
type Settled = LoadOutcome | { readonly status: 'failed'; readonly error: unknown };

interface Pending {
  readonly plan: PlannedUpdate;
  /** Records that this rank loads, about. */
  readonly size: number;
  /** Never rejected: what fails is thrown in its turn, not when it happens to fail. */
  readonly settled: Promise<Settled[][] | { readonly error: unknown }>;
}

/**
 * Loads what is planned.
 *
 * @throws DataError with the code of the first record that cannot be used, where such records stop the run;
 *   E_DATA_UNUSABLE after an epoch without a single usable one; the signal's reason. The same on all ranks
 */
export async function* loadUpdates(
  plans: Iterator<PlannedUpdate, void>,
  options: LoadUpdatesOptions,
): AsyncGenerator<UpdateData, void> {
  const { order, exchange = alone, signal } = options;
  const ended = new AbortController();
  const stop = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal;
  const ahead: Pending[] = [];
  const epoch = new EpochCheck();
  try {
    fill(ahead, plans, options, stop);
    for (let pending = ahead.shift(); pending; pending = ahead.shift()) {
      // Begun before this one is handed out, so that it is loaded meanwhile.
      fill(ahead, plans, options, stop);
      const { plan } = pending;
      const start = performance.now();
      const settled = await abortable(pending.settled, stop);
      const { microBatches, ...own } = shareOf(settled, options, performance.now() - start);
      const shares = await exchange(own);
      const failed = shares.find(({ error }) => error !== undefined);
      if (failed !== undefined) throw failed.error;
      const rejected = shares.flatMap((share) => share.rejected);
      epoch.see(plan, plan.records.length, rejected);
      yield {
        epoch: plan.epoch,
        microBatches: padded(microBatches, Math.max(1, ...shares.map(({ steps }) => steps))),
        ...{ shares, rejected },
        counts: sumCounts(shares.map(({ counts }) => counts)),
        odd: shares.flatMap(({ odd }) => odd),
        cursor: cursorAfter(plan, order),
        waitedMs: Math.max(...shares.map((share) => share.waitedMs)),
      };
    }
  } finally {
    ended.abort(new Error('No more data are wanted.'));
  }
}

const alone: Exchange = (own) => Promise.resolve([own]);

/** The micro-batches of this rank, and what it tells of them. */
function shareOf(
  settled: Awaited<Pending['settled']>,
  { badRecords, budget }: LoadUpdatesOptions,
  waitedMs: number,
): ShareFacts & { readonly microBatches: readonly MicroBatch[] } {
  try {
    if (!Array.isArray(settled)) throw settled.error;
    const batches = settled.map((batch) => batch.map((outcome) => passed(outcome, badRecords)));
    const microBatches = (budget === undefined ? batches : packed(batches.flat(), budget)).map(
      microBatch,
    );
    const samples = microBatches.flatMap((each) => each.samples);
    return {
      microBatches,
      counts: sumCounts(microBatches.map(({ counts }) => counts)),
      steps: microBatches.length,
      rejected: batches
        .flat()
        .flatMap((outcome) => (outcome.status === 'rejected' ? [outcome.rejected] : [])),
      odd: samples.flatMap(({ place, id, warnings }) =>
        warnings === undefined ? [] : [{ place, id, warnings }],
      ),
      waitedMs,
    };
  } catch (error) {
    const none = { microBatches: [], steps: 0, counts: sumCounts([]), rejected: [], odd: [] };
    return { ...none, waitedMs, error };
  }
}

/** The samples among them, by micro-batches that fill a budget. */
function packed(outcomes: readonly LoadOutcome[], budget: Budget): LoadOutcome[][] {
  const samples = outcomes.filter((outcome) => outcome.status === 'sample');
  const sizes = samples.map(({ sample: { inputIds, images } }) => ({
    tokens: inputIds.length,
    images: images.length,
  }));
  return pack(sizes, budget).map((places) => places.map((place) => samples[place]!));
}

/** All ranks take as many steps, some without records. */
function padded(microBatches: readonly MicroBatch[], steps: number): MicroBatch[] {
  return Array.from({ length: steps }, (_, step) => microBatches[step] ?? microBatch([]));
}

function cursorAfter({ epoch, position, grouped }: PlannedUpdate, order: OrderFacts): Cursor {
  return { epoch, position, ...(grouped !== undefined && { grouped }), order };
}

/** Begins what comes next, until an update and enough for all threads are under way. */
function fill(
  ahead: Pending[],
  plans: Iterator<PlannedUpdate, void>,
  options: LoadUpdatesOptions,
  signal: AbortSignal,
): void {
  const { executor, cut } = options;
  let records = ahead.reduce((sum, { size }) => sum + size, 0);
  while (ahead.length === 0 || records < executor.width) {
    const next = plans.next();
    if (next.done) return;
    const plan = next.value;
    const settled = load(plan, options, signal).catch((error: unknown) => ({ error }));
    const size = Math.ceil(plan.records.length / cut.worldSize);
    records += size;
    ahead.push({ plan, size, settled });
  }
}

/** Loads the share of this rank. */
async function load(
  { records }: PlannedUpdate,
  options: LoadUpdatesOptions,
  signal: AbortSignal,
): Promise<Settled[][]> {
  const { executor, cut, rank = 0 } = options;
  const one = (place: number): Promise<Settled> =>
    executor.load(records[place]!, signal).then(
      (outcome) => placed(outcome, place),
      (error: unknown): Settled => ({ status: 'failed', error }),
    );
  const lengths = cut.worldSize === 1 ? records : await lengthsOf(records, options, signal);
  const share = deal(lengths, cut)[rank]!;
  return Promise.all(share.map((places) => Promise.all(places.map((place) => one(place)))));
}

/** The outcome with the sample's position in the update, which follows from the plan alone. */
function placed(outcome: LoadOutcome, position: number): LoadOutcome {
  if (outcome.status !== 'sample') return outcome;
  return { status: 'sample', sample: { ...outcome.sample, position } };
}

/** Tokens of records, about. */
async function lengthsOf(
  records: Uint32Array,
  { executor, lengths }: LoadUpdatesOptions,
  signal: AbortSignal,
): Promise<Int32Array> {
  const measured =
    lengths === undefined
      ? Promise.all(
          Array.from(records, async (each) => (await executor.measure(each, each + 1, signal))[0]!),
        )
      : Array.from(records, (each) => lengths[each]!);
  return Int32Array.from(await measured, Math.abs);
}

/** The outcome, unless it is one that stops the run. */
function passed(outcome: Settled, badRecords: LoadUpdatesOptions['badRecords']): LoadOutcome {
  if (outcome.status === 'failed') throw outcome.error;
  if (outcome.status === 'rejected' && outcome.rejected.kind === 'bad' && badRecords === 'stop') {
    throw rejectionError(outcome.rejected);
  }
  return outcome;
}

/** The result, or the signal's reason as soon as it is raised. */
async function abortable<T>(result: Promise<T>, signal: AbortSignal): Promise<T> {
  signal.throwIfAborted();
  let cancel!: () => void;
  const aborted = new Promise<never>((_, reject) => {
    cancel = () => reject(signal.reason as Error);
    signal.addEventListener('abort', cancel, { once: true });
  });
  try {
    return await Promise.race([result, aborted]);
  } finally {
    signal.removeEventListener('abort', cancel);
  }
}
