import { describe, expect, it } from 'vitest';

import { DataError } from '../../base/errors.js';
import { planUpdates, type PlannedUpdate } from '../sampling/plan.js';
import { Sampler } from '../sampling/sampler.js';
import {
  loadUpdates,
  type Exchange,
  type LoadUpdatesOptions,
  type ShareFacts,
  type UpdateData,
} from './batches.js';
import type { Executor } from './executor.js';
import type { LoadOutcome } from './record-loader.js';

const place = (record: number) => ({ file: 'a.jsonl', record: record + 1, line: record + 1 });

function sample(record: number): LoadOutcome {
  const inputIds = new Int32Array(record + 1);
  const rest = { images: [], id: record, imageTokens: 0, truncated: record % 2 };
  const labels = inputIds;
  return {
    status: 'sample',
    sample: { inputIds, labels, place: place(record), supervised: record, ...rest },
  };
}

function rejected(record: number, kind: 'bad' | 'overlong'): LoadOutcome {
  const why = { code: 'E_TEST', reason: 'it is odd', hint: 'Mend it.', kind };
  return { status: 'rejected', rejected: { ...place(record), id: null, ...why } };
}

/** Loads in a random order of time; what `special` names comes out otherwise. */
class FakeExecutor implements Executor {
  readonly width = 3;
  readonly asked: number[] = [];
  constructor(private readonly special: Record<number, LoadOutcome | Error> = {}) {}

  async load(record: number, signal: AbortSignal): Promise<LoadOutcome> {
    this.asked.push(record);
    await new Promise((resolve) => setTimeout(resolve, (record * 7) % 4));
    signal.throwIfAborted();
    const outcome = this.special[record] ?? sample(record);
    if (outcome instanceof Error) throw outcome;
    return outcome;
  }
  /** As long as they become, and without an image where they are odd. */
  count(): Promise<Int32Array> {
    return Promise.reject(new Error('not asked for'));
  }

  measure(from: number): Promise<Int32Array> {
    return Promise.resolve(Int32Array.of(from % 2 === 1 ? -from - 1 : from + 1));
  }
  close(): Promise<void> {
    return Promise.resolve();
  }
}

/** Updates of 2 x 2 records out of 10, in order. */
function plans(count: number): PlannedUpdate[] {
  const records = Uint32Array.from({ length: 10 }, (_, i) => i);
  const sampler = new Sampler({ populations: [{ records, weight: 1 }], seed: 0, shuffle: false });
  const planned = planUpdates(sampler, { batchSize: 2, accumulate: 2 });
  return Array.from({ length: count }, () => planned.next().value as PlannedUpdate);
}

const ORDER = { files: 'x', options: 'y' };

function load(
  executor: Executor,
  count: number,
  options: Partial<LoadUpdatesOptions> = {},
): AsyncGenerator<UpdateData, void> {
  const cut = { batchSize: 2, worldSize: 1 };
  const given = { executor, badRecords: 'stop', order: ORDER, cut, ...options } as const;
  return loadUpdates(plans(count)[Symbol.iterator](), given);
}

async function collect(updates: AsyncIterable<UpdateData>): Promise<UpdateData[]> {
  const all: UpdateData[] = [];
  for await (const update of updates) all.push(update);
  return all;
}

const ids = ({ microBatches }: UpdateData): unknown[] =>
  microBatches.map(({ samples }) => samples.map(({ id }) => id));

describe('loaded updates', () => {
  it('come in order with their counts and cursors', async () => {
    const updates = await collect(load(new FakeExecutor(), 4));
    expect(updates.map(ids)).toEqual([
      [
        [0, 1],
        [2, 3],
      ],
      [
        [4, 5],
        [6, 7],
      ],
      [[8, 9]],
      [
        [0, 1],
        [2, 3],
      ],
    ]);
    expect(updates[1]!.microBatches.map(({ counts }) => counts.tokens)).toEqual([11, 15]);
    expect(updates[1]!.counts).toEqual({
      ...{ sequences: 4, tokens: 26, imageTokens: 0, images: 0, supervised: 22, truncated: 2 },
    });
    expect(updates.map(({ cursor }) => cursor)).toEqual([
      { epoch: 0, position: 4, order: ORDER },
      { epoch: 0, position: 8, order: ORDER },
      { epoch: 0, position: 10, order: ORDER },
      { epoch: 1, position: 4, order: ORDER },
    ]);
    expect(updates.every(({ waitedMs }) => waitedMs >= 0)).toBe(true);
  });

  it('are loaded one ahead and no further', async () => {
    const executor = new FakeExecutor();
    const updates = load(executor, 4);
    await updates.next();
    expect(executor.asked).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    await updates.next();
    // The third has too few for three threads, so the fourth is begun too.
    expect(executor.asked.slice(8)).toEqual([8, 9, 0, 1, 2, 3]);
    await updates.return();
  });

  it('leave bad records out, their places empty, and list them', async () => {
    const executor = new FakeExecutor({
      1: rejected(1, 'bad'),
      4: rejected(4, 'bad'),
      5: rejected(5, 'overlong'),
    });
    const updates = await collect(load(executor, 2, { badRecords: 'skip' }));
    expect(updates.map(ids)).toEqual([
      [[0], [2, 3]],
      [[], [6, 7]],
    ]);
    expect(updates[1]!.rejected.map(({ line, kind }) => [line, kind])).toEqual([
      [5, 'bad'],
      [6, 'overlong'],
    ]);
    expect(updates[1]!.cursor.position).toBe(8);
    expect(updates[1]!.counts.sequences).toBe(2);
  });

  it('stop at the first bad record of the order, after the updates before it', async () => {
    const late = new DataError('a.jsonl:8 is too long', { code: 'E_OVERLONG', hint: 'Raise it.' });
    const executor = new FakeExecutor({
      5: rejected(5, 'overlong'),
      6: rejected(6, 'bad'),
      7: late,
    });
    const updates = load(executor, 3);
    expect(ids((await updates.next()).value as UpdateData)).toEqual([
      [0, 1],
      [2, 3],
    ]);
    await expect(updates.next()).rejects.toMatchObject({
      code: 'E_TEST',
      message: 'a.jsonl:7: it is odd.',
      hint: 'Mend it. Or leave such records out: set `data.badRecords` to "skip".',
    });
    // What is wrong with the run stops it also where bad records do not.
    const skipping = load(executor, 3, { badRecords: 'skip' });
    await skipping.next();
    await expect(skipping.next()).rejects.toBe(late);
  });

  it('are packed into what a budget holds, by the lengths that records turn out to have', async () => {
    // Of 1, 2, 3, 4 tokens; of 5 and more, of which one is bad; and of the rest.
    const executor = new FakeExecutor({ 4: rejected(4, 'bad') });
    const options = {
      cut: { batchSize: 4, worldSize: 1 },
      budget: { tokens: 8 },
      badRecords: 'skip',
    } as const;
    const updates = await collect(load(executor, 2, options));
    expect(updates.map(ids)).toEqual([
      [[0, 2, 3], [1]],
      [[7], [6], [5]],
    ]);
    expect(updates[1]).toMatchObject({ rejected: [{ line: 5 }], cursor: { position: 8 } });
    // Places are those of the update: masks follow from them.
    expect(updates[1]!.microBatches.flatMap(({ samples }) => samples)).toMatchObject([
      { position: 3 },
      { position: 2 },
      { position: 1 },
    ]);
  });

  it('have a micro-batch also where no record of an update can be used', async () => {
    const all = [0, 1, 2, 3].map((each) => [each, rejected(each, 'bad')] as const);
    const options = { budget: { tokens: 20 }, badRecords: 'skip' } as const;
    const updates = await collect(load(new FakeExecutor(Object.fromEntries(all)), 2, options));
    expect(updates.map(ids)[0]).toEqual([[]]);
  });

  it('fail after an epoch without a record to use', async () => {
    const all = Object.fromEntries(
      plans(3).flatMap(({ records }) =>
        Array.from(records, (each) => [each, rejected(each, 'bad')]),
      ),
    );
    const options = { badRecords: 'skip' } as const;
    await expect(collect(load(new FakeExecutor(all), 4, options))).rejects.toMatchObject({
      code: 'E_DATA_UNUSABLE',
      message: 'None of the 10 records can be used. The first: a.jsonl:1: it is odd.',
    });
  });

  it('stop at a signal, also while they are waited for', async () => {
    const controller = new AbortController();
    const updates = load(new FakeExecutor(), 3, { signal: controller.signal });
    await updates.next();
    const next = updates.next();
    controller.abort(new Error('enough'));
    await expect(next).rejects.toThrow('enough');
    const aborted = load(new FakeExecutor(), 1, { signal: AbortSignal.abort(new Error('before')) });
    await expect(aborted.next()).rejects.toThrow('before');
  });
});

describe('updates of several ranks', () => {
  const cut = { batchSize: 1, worldSize: 2 };
  /** What each rank has told for one update, once both have. */
  function exchanges(): Exchange[] {
    const rounds: { told: ShareFacts[]; resolve: () => void; all: Promise<void> }[] = [];
    return [0, 1].map((rank) => {
      let round = 0;
      return async (own) => {
        rounds[round] ??= withResolver();
        const { told, resolve, all } = rounds[round++]!;
        told[rank] = own;
        if (Object.keys(told).length === 2) resolve();
        await all;
        return told;
      };
    });
  }
  const withResolver = () => {
    let resolve!: () => void;
    const all = new Promise<void>((done) => (resolve = done));
    return { told: [] as ShareFacts[], resolve, all };
  };
  const both = (
    executors: readonly Executor[],
    options: Partial<LoadUpdatesOptions> = {},
  ): AsyncGenerator<UpdateData, void>[] =>
    exchanges().map((exchange, rank) =>
      load(executors[rank]!, 3, { cut, rank, exchange, ...options }),
    );

  it('are dealt by length, and told to be one', async () => {
    const special = { 2: rejected(2, 'bad') };
    const executors = [new FakeExecutor(special), new FakeExecutor(special)];
    const [own, other] = await Promise.all(
      both(executors, { badRecords: 'skip' }).map((updates) => collect(updates)),
    );
    // The longest two in one step, the shortest two in the other.
    expect(own!.map(ids)).toEqual([[[3], [0]], [[7], [4]], [[9]]]);
    expect(other!.map(ids)).toEqual([[[], [1]], [[6], [5]], [[8]]]);
    const shared = (list: readonly UpdateData[]): unknown =>
      list.map(({ microBatches: _, ...rest }) => rest);
    expect(shared(own!)).toEqual(shared(other!));
    expect(own![0]).toMatchObject({
      counts: { sequences: 3, tokens: 7 },
      rejected: [{ record: 3 }],
      cursor: { position: 4 },
      shares: [{ counts: { tokens: 5 } }, { counts: { tokens: 2 } }],
    });
    expect(executors.map(({ asked }) => asked.length)).toEqual([5, 5]);
    // What masks depend on: where a record is in the update, whoever has it and whatever was left out.
    const positions = (list: readonly UpdateData[]) =>
      list.map(({ microBatches }) =>
        microBatches.map(({ samples }) => samples.map(({ position }) => position)),
      );
    expect(positions(own!)).toEqual([[[3], [0]], [[3], [0]], [[1]]]);
    expect(positions(other!)).toEqual([[[], [1]], [[2], [1]], [[0]]]);
  });

  it('are dealt to ranks by about how long they are, then packed by each, and take as many steps on all', async () => {
    const whole = { cut: { batchSize: 4, worldSize: 2 }, budget: { tokens: 10 } };
    // The second record becomes longer than it looks.
    const executors = [0, 1].map(() => new FakeExecutor({ 1: sample(9) }));
    const [own, other] = await Promise.all(
      both(executors, whole).map((updates) => collect(updates)),
    );
    expect(own!.map(ids)).toEqual([[[0, 3], []], [[7], [4]], [[9]]]);
    expect(other!.map(ids)).toEqual([[[9], [2]], [[6], [5]], [[8]]]);
    expect(own![0]!.shares.map(({ steps }) => steps)).toEqual([1, 2]);
    expect(own![0]!.counts).toMatchObject({ sequences: 4, tokens: 18 });
    expect(executors.map(({ asked }) => asked.length)).toEqual([5, 5]);
  });

  it('end on all of them with the error that one has', async () => {
    const error = new DataError('cannot be read', { code: 'E_DATA_READ', hint: 'Mend it.' });
    const ends = await Promise.allSettled(
      both([new FakeExecutor({ 7: error }), new FakeExecutor()]).map((updates) => collect(updates)),
    );
    expect(ends).toEqual([
      { status: 'rejected', reason: error },
      { status: 'rejected', reason: error },
    ]);
  });
});
