/**
 * What the guard costs: updates that it watches, and the same updates that nobody watches, in turn. Both go through one model and one
 * optimizer.
 *
 * - Watched: behind a gate that holds, numbers read one update late, an event made of them, and the guard shown it.
 * - Bare: behind a gate that does not hold, numbers thrown away unread. That they are made is part of both: clipping wants the norms.
 */

import { UsageError } from '../src/base/errors.js';
import { median } from '../src/base/median.js';
import { checkRecipe } from '../src/config/index.js';
import { sumCounts, type UpdateData } from '../src/data/index.js';
import { finish, type Batch } from '../src/models/index.js';
import { RunGuard } from '../src/guard/run-guard.js';
import { Gate, schedule } from '../src/optim/index.js';
import { emptyCache, memoryStats, synchronize } from '../src/torch/index.js';
import { updateEvent } from '../src/train/loop/update-event.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { runUpdate, type UpdateResult, type UpdateSetup } from '../src/train/step/update.js';
import { prepareCase, rounded, type CaseOptions } from './training-row.js';

export interface GuardRowOptions extends CaseOptions {
  readonly policy: MemoryPolicy;
  /** Measurements of each kind: in pairs, of which every other one begins with the watched updates. */
  readonly pairs: number;
}

/** Overheads are of the time of an update, in percent. */
export interface GuardRow {
  readonly case: string;
  readonly mode: string;
  readonly policy: MemoryPolicy;
  readonly pairs: number;
  /** Of an update that nobody watches, the median. */
  readonly bareMs: number;
  readonly watchedMs: number;
  /** Median over the pairs, and the quartiles beside it. */
  readonly overhead: number;
  readonly quartiles: readonly [number, number];
  /** Updates that the guard was shown. */
  readonly watched: number;
  /** Of these, those that it wanted to examine. */
  readonly examined: number;
}

/** @throws UsageError `E_USAGE` for a mode that updates in backward, or no pairs */
export function measureGuard({ policy, pairs, ...options }: GuardRowOptions): GuardRow {
  if (!Number.isInteger(pairs) || pairs < 1) {
    const hint = 'Give how many times both kinds of updates are measured, such as 30.';
    throw new UsageError(`${pairs} is no number of pairs`, { code: 'E_USAGE', hint });
  }
  const owned: { dispose(): void }[] = [];
  try {
    return measure({ policy, pairs, ...options }, (each) => {
      owned.push(each);
      return each;
    });
  } finally {
    for (const each of owned.reverse()) each.dispose();
    emptyCache(options.device);
  }
}

function measure(
  { policy, pairs, ...options }: GuardRowOptions,
  own: Parameters<typeof prepareCase>[1],
): GuardRow {
  const { of, mode, device } = options;
  const { model, optimizer, updates, inBackward } = prepareCase(options, own);
  own(optimizer);
  if (inBackward) {
    throw new UsageError(`${mode} updates in backward`, {
      code: 'E_USAGE',
      hint: 'Leave `-ub` away: the guard sees an update at its end.',
    });
  }
  const randomness = new Randomness(1);
  const total = (2 * pairs + 2) * updates.length;
  const common = {
    ...{ model, device, randomness },
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ shape: 'constant', updates: total }),
  };
  const setupOf = (holds: boolean): UpdateSetup => {
    const gate = own(new Gate(device, { holds }));
    return {
      ...common,
      ...(holds && { gate }),
      store: new AccumulatingStore({ model, optimizer, gate, randomness, clipNorm: 1 }),
    };
  };
  const [bare, observed] = [setupOf(false), setupOf(true)];
  const watch = new Watch(options.device, model);
  let update = 0;

  /** Seconds for the updates of the case. */
  const time = (
    setup: UpdateSetup,
    see: (result: UpdateResult, batches: Batch[]) => void,
    end = (): void => undefined,
  ): number => {
    synchronize(device);
    const begin = performance.now();
    for (const batches of updates) see(finish(runUpdate(setup, update++, batches)), batches);
    end();
    synchronize(device);
    return (performance.now() - begin) / 1000;
  };
  const timeBare = (): number => time(bare, ({ numbers }) => numbers.dispose());
  const timeWatched = (): number =>
    time(
      observed,
      (result, batches) => watch.take(result, batches),
      () => watch.flush(),
    );
  // Not timed: they meet every shape.
  timeBare();
  timeWatched();
  const taken = Array.from({ length: pairs }, (_, i) => {
    if (i % 2 === 0) {
      const first = timeBare();
      return { bare: first, watched: timeWatched() };
    }
    const first = timeWatched();
    return { watched: first, bare: timeBare() };
  });
  const overheads = taken
    .map((each) => 100 * (each.watched / each.bare - 1))
    .toSorted((a, b) => a - b);
  const ofUpdate = (kind: 'bare' | 'watched'): number =>
    rounded((1000 * median(taken.map((each) => each[kind]))) / updates.length, 3);
  const quartile = (share: number): number =>
    rounded(overheads[Math.floor(share * (pairs - 1))]!, 3);
  return {
    ...{ case: of.name, mode, policy, pairs },
    bareMs: ofUpdate('bare'),
    watchedMs: ofUpdate('watched'),
    overhead: rounded(median(overheads), 3),
    quartiles: [quartile(0.25), quartile(0.75)],
    ...{ watched: watch.watched, examined: watch.examined },
  };
}

/** Reads numbers one update late, as a run does, and shows them to a guard. */
class Watch {
  watched = 0;
  examined = 0;
  private readonly guard: RunGuard;
  private pending: readonly [UpdateResult, readonly Batch[]] | null = null;
  private mark = performance.now();

  constructor(
    private readonly device: CaseOptions['device'],
    model: Parameters<RunGuard['begin']>[0],
  ) {
    const nowhere = { model: { from: 'x' }, data: { sources: ['x'] } };
    const recipe = { name: 'bench', ...nowhere, optimizer: { learningRate: 2e-5 } };
    this.guard = new RunGuard(checkRecipe(recipe));
    this.guard.begin(model);
  }

  take(result: UpdateResult, batches: readonly Batch[]): void {
    this.flush();
    this.pending = [result, batches];
  }

  flush(): void {
    if (this.pending === null) return;
    const [result, batches] = this.pending;
    this.pending = null;
    const numbers = result.numbers.read();
    const now = performance.now();
    const event = updateEvent({
      ...{ result, numbers, data: dataOf(batches), peaks: [], peakRate: 2e-5, scaled: false },
      seconds: (now - this.mark) / 1000,
      ...{ peakBytes: memoryStats(this.device).peakReserved, device: { totalBytes: 0 } },
    });
    this.mark = now;
    this.watched++;
    if (this.guard.see({ event, numbers, tensorNames: result.tensorNames })) this.examined++;
  }
}

/** As if it had been loaded. */
function dataOf(batches: readonly Batch[]): UpdateData {
  return {
    ...{ epoch: 0, microBatches: [], shares: [], rejected: [], odd: [], waitedMs: 0 },
    counts: sumCounts(batches.map(({ counts }) => ({ ...counts, truncated: 0 }))),
    cursor: { epoch: 0, position: 0, order: { files: '', options: '' } },
  };
}
