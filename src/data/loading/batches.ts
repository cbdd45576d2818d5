/**
 * The batches of a run: planned, loaded ahead within bounds, in order. How many threads load them changes nothing but time.
 *
 * While an update is worked on, the next one is loaded: at most two updates (or twice what the threads hold) are in memory.
 */
import type { Cursor, OrderFacts, PlannedUpdate } from '../sampling/plan.js';
import { rejectionError, type RejectedRecord } from '../sources/place.js';
import { EpochCheck } from './epoch-check.js';
import type { Executor } from './executor.js';
import { microBatch, sumCounts, type DataCounts, type MicroBatch } from './micro-batch.js';
import type { LoadOutcome } from './record-loader.js';

/** What one update is made of on this rank. */
export interface UpdateData {
  readonly epoch: number;
  readonly microBatches: readonly MicroBatch[];
  /** Of all micro-batches. */
  readonly counts: DataCounts;
  /** Records that are left out, each time they come. */
  readonly rejected: readonly RejectedRecord[];
  /** Where to go on after this update. */
  readonly cursor: Cursor;
  /** Milliseconds that were waited for it. */
  readonly waitedMs: number;
}

export interface LoadUpdatesOptions {
  readonly executor: Executor;
  readonly badRecords: 'stop' | 'skip';
  /** Of what the order is made, for cursors. */
  readonly order: OrderFacts;
  /** Whether an epoch without a usable record is an error; a rank that has a share only cannot tell. @default true */
  readonly needsUsable?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** An outcome, or why there is none. */
type Settled = LoadOutcome | { readonly status: 'failed'; readonly error: unknown };

interface Pending {
  readonly plan: PlannedUpdate;
  readonly size: number;
  readonly settled: Promise<Settled[][]>;
}

/**
 * Loads what is planned.
 *
 * @throws DataError with the code of the first record that cannot be used, where such records stop the run;
 *   E_DATA_UNUSABLE after an epoch without a single usable one; the signal's reason
 */
export async function* loadUpdates(
  plans: Iterator<PlannedUpdate, void>,
  { executor, badRecords, order, needsUsable = true, signal }: LoadUpdatesOptions,
): AsyncGenerator<UpdateData, void> {
  const ended = new AbortController();
  const stop = signal ? AbortSignal.any([signal, ended.signal]) : ended.signal;
  const ahead: Pending[] = [];
  const epoch = new EpochCheck();
  try {
    fill(ahead, plans, executor, stop);
    for (let pending = ahead.shift(); pending; pending = ahead.shift()) {
      // Begun before this one is handed out, so that it is loaded meanwhile.
      fill(ahead, plans, executor, stop);
      const { plan } = pending;
      const start = performance.now();
      const settled = await abortable(pending.settled, stop);
      const waitedMs = performance.now() - start;
      const batches = settled.map((batch) => batch.map((outcome) => passed(outcome, badRecords)));
      const outcomes = batches.flat();
      const rejected = outcomes.flatMap((o) => (o.status === 'rejected' ? [o.rejected] : []));
      if (needsUsable) epoch.see(plan, outcomes.length, rejected);
      const microBatches = batches.map(microBatch);
      yield {
        epoch: plan.epoch,
        microBatches,
        counts: sumCounts(microBatches.map(({ counts }) => counts)),
        rejected,
        cursor: cursorAfter(plan, order),
        waitedMs,
      };
    }
  } finally {
    ended.abort(new Error('No more data are wanted.'));
  }
}

function cursorAfter({ epoch, position, grouped }: PlannedUpdate, order: OrderFacts): Cursor {
  return { epoch, position, ...(grouped !== undefined && { grouped }), order };
}

/** Begins what comes next, until an update and enough for all threads are under way. */
function fill(
  ahead: Pending[],
  plans: Iterator<PlannedUpdate, void>,
  executor: Executor,
  signal: AbortSignal,
): void {
  let records = ahead.reduce((sum, { size }) => sum + size, 0);
  while (ahead.length === 0 || records < executor.width) {
    const next = plans.next();
    if (next.done) return;
    const plan = next.value;
    // What fails is thrown in its turn, not when it happens to fail.
    const load = (record: number): Promise<Settled> =>
      executor
        .load(record, signal)
        .catch((error: unknown): Settled => ({ status: 'failed', error }));
    const settled = Promise.all(
      plan.microBatches.map((batch) => Promise.all(Array.from(batch, load))),
    );
    // An empty share of a rank takes a place all the same.
    const size = plan.microBatches.reduce((sum, batch) => sum + batch.length, 0) || 1;
    records += size;
    ahead.push({ plan, size, settled });
  }
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
