import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import {
  countUpdates,
  planUpdates,
  readCursor,
  recordsDone,
  recordsPerUpdate,
  type PlannedUpdate,
} from './plan.js';
import { Sampler } from './sampler.js';

const sampler = (count: number, seed = 5): Sampler => {
  const records = Uint32Array.from({ length: count }, (_, i) => i);
  return new Sampler({ populations: [{ records, weight: 1 }], seed, shuffle: true });
};

function take<T>(values: Iterable<T>, count: number): T[] {
  const taken: T[] = [];
  for (const value of values) {
    taken.push(value);
    if (taken.length === count) break;
  }
  return taken;
}

const flat = ({ records }: PlannedUpdate): number[] => [...records];

const batching = fc.record({
  batchSize: fc.integer({ min: 1, max: 5 }),
  accumulate: fc.integer({ min: 1, max: 4 }),
  worldSize: fc.integer({ min: 1, max: 3 }),
});
const count = fc.integer({ min: 1, max: 60 });

describe('planned updates', () => {
  it('take an epoch in order, whatever the shape of the batch', () => {
    fc.assert(
      fc.property(count, batching, (records, shape) => {
        const order = [...sampler(records).order(0)];
        const size = recordsPerUpdate(shape);
        const updates = Math.ceil(records / size);
        const planned = take(planUpdates(sampler(records), shape), updates);
        for (const [i, update] of planned.entries()) {
          expect(flat(update)).toEqual(order.slice(i * size, (i + 1) * size));
          expect(update.startsEpoch).toBe(i === 0);
          expect(update.endsEpoch).toBe(i === updates - 1);
        }
      }),
    );
  });

  it('go on from any update as if there had been no break', () => {
    fc.assert(
      fc.property(count, batching, fc.nat(12), (records, shape, done) => {
        const all = take(planUpdates(sampler(records), shape), done + 8);
        const from = done === 0 ? undefined : all[done - 1];
        const rest = take(planUpdates(sampler(records), { ...shape, from }), 8);
        expect(rest.map(flat)).toEqual(all.slice(done).map(flat));
        expect(rest.map(({ epoch, position }) => [epoch, position])).toEqual(
          all.slice(done).map(({ epoch, position }) => [epoch, position]),
        );
      }),
    );
  });

  it('draw another order for the next epoch', () => {
    const [one, two] = take(planUpdates(sampler(50), { batchSize: 50 }), 2).map(flat);
    expect(one).not.toEqual(two);
    expect([...one!].sort()).toEqual([...two!].sort());
  });
});

describe('a run whose batch changes on the way', () => {
  const grouping = fc.constantFrom('none', 'length', 'modality');
  const shuffle = fc.boolean();

  /** Records of many lengths, some of them without images, some of them in an epoch twice. */
  function sampled(
    records: number,
    batch: number,
    { by, isShuffled }: { by: string; isShuffled: boolean },
  ): Sampler {
    const lengths = Int32Array.from({ length: records }, (_, i) =>
      i % 3 === 0 ? -1 - (i % 5) : 1 + ((i * 7) % 11),
    );
    const numbers = Uint32Array.from({ length: records }, (_, i) => i);
    return new Sampler({
      populations: [
        { records: numbers, weight: 1 },
        { records: numbers.subarray(0, 3), weight: 0.5 },
      ],
      seed: 3,
      shuffle: isShuffled,
      grouping: by === 'none' ? undefined : { batch, lengths, byModality: by === 'modality' },
    });
  }

  it('sees in each epoch what it would have seen, however often it changes', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 40 }),
        fc.integer({ min: 1, max: 3 }),
        fc.array(fc.record({ batching, updates: fc.integer({ min: 1, max: 6 }) }), {
          minLength: 1,
          maxLength: 4,
        }),
        grouping,
        shuffle,
        (records, epochs, sittings, by, isShuffled) => {
          const how = { by, isShuffled };
          const { recordsPerEpoch } = sampled(records, 1, how);
          const until = epochs * recordsPerEpoch;
          const seen: number[][] = Array.from({ length: epochs }, () => []);
          let from: PlannedUpdate | undefined;
          const sit = (shape: (typeof sittings)[number]['batching'], most: number): void => {
            const size = recordsPerUpdate(shape);
            const sampler = sampled(records, size, how);
            const planned = take(planUpdates(sampler, { ...shape, from, until }), most);
            const done = from === undefined ? 0 : recordsDone(from, recordsPerEpoch);
            const left = countUpdates({ from: done, until }, { recordsPerEpoch, records: size });
            expect(planned.length).toBe(Math.min(most, left));
            for (const update of planned) seen[update.epoch]!.push(...flat(update));
            from = planned.at(-1) ?? from;
          };
          for (const { batching: shape, updates } of sittings) sit(shape, updates);
          sit({ batchSize: 2, accumulate: 1, worldSize: 1 }, Infinity);
          const sorted = (list: Iterable<number>): number[] => [...list].sort((a, b) => a - b);
          const whole = sampled(records, 2, how);
          expect(seen.map(sorted)).toEqual(seen.map((_, epoch) => sorted(whole.order(epoch))));
        },
      ),
    );
  });

  it('groups anew what is left of its epoch, in whole batches of one modality', () => {
    const how = { by: 'modality', isShuffled: true };
    const [, from] = take(planUpdates(sampled(60, 4, how), { batchSize: 4 }), 2);
    const rest = take(planUpdates(sampled(60, 6, how), { batchSize: 6, from }), 6);
    const isText = (i: number): boolean => i % 3 === 0;
    expect(rest.map((update) => new Set(flat(update).map(isText)).size)).toEqual(rest.map(() => 1));
    // Going on once more without a change is as if there had been no break.
    const again = take(planUpdates(sampled(60, 6, how), { batchSize: 6, from: rest[2] }), 3);
    expect(again.map(flat)).toEqual(rest.slice(3).map(flat));
  });

  it('ends with the records that are asked for', () => {
    const updates = take(planUpdates(sampler(10), { batchSize: 4, until: 16 }), 99);
    expect(updates.map((update) => flat(update).length)).toEqual([4, 4, 2, 4, 2]);
    expect(countUpdates({ until: 16 }, { recordsPerEpoch: 10, records: 4 })).toBe(5);
  });
});

describe('a cursor', () => {
  const order = { files: 'abc', options: 'def' };
  it('comes back from JSON', () => {
    const grouped = [
      [0, 4],
      [8, 2],
    ] as const;
    for (const place of [
      { epoch: 2, position: 10 },
      { epoch: 2, position: 10, grouped },
    ]) {
      const saved: unknown = JSON.parse(JSON.stringify({ ...place, order }));
      expect(readCursor(saved, order, 10)).toEqual(place);
    }
  });

  it.each([
    null,
    7,
    {},
    { epoch: 0, position: 11, order },
    { epoch: -1, position: 0, order },
    { epoch: 0.5, position: 0, order },
    { epoch: 0, position: '1', order },
    { epoch: 0, position: 1, grouped: [[0]], order },
    { epoch: 0, position: 1, order: 'abc' },
    { epoch: 0, position: 1, order: { ...order, files: 'other' } },
    { epoch: 0, position: 1, order: { ...order, options: 'other' } },
  ])('is refused: %j', (saved) => {
    expect(() => readCursor(saved, order, 10)).toThrow(
      expect.objectContaining({ code: 'E_CURSOR' }) as Error,
    );
  });
});
