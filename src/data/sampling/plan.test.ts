import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { planUpdates, readCursor, recordsPerUpdate, type PlannedUpdate } from './plan.js';
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

const flat = ({ microBatches }: PlannedUpdate): number[] => microBatches.flatMap((b) => [...b]);

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
        const ranks = Array.from({ length: shape.worldSize }, (_, rank) =>
          take(planUpdates(sampler(records), { ...shape, rank }), updates),
        );
        for (let i = 0; i < updates; i++) {
          const shares = ranks.map((plans) => plans[i]!);
          expect(new Set(shares.map((share) => share.microBatches.length)).size).toBe(1);
          // Step by step, the ranks in turn.
          const together = shares[0]!.microBatches.flatMap((_, step) =>
            shares.flatMap((share) => [...share.microBatches[step]!]),
          );
          expect(together).toEqual(order.slice(i * size, (i + 1) * size));
          expect(shares[0]!.startsEpoch).toBe(i === 0);
          expect(shares[0]!.endsEpoch).toBe(i === updates - 1);
        }
      }),
    );
  });

  it('go on from any update as if there had been no break', () => {
    fc.assert(
      fc.property(count, batching, fc.nat(12), (records, shape, done) => {
        const all = take(planUpdates(sampler(records), shape), done + 8);
        const from = done === 0 ? undefined : all[done - 1];
        const rest = take(planUpdates(sampler(records), shape, from), 8);
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

describe('a cursor', () => {
  it('comes back from JSON', () => {
    const cursor = { epoch: 2, position: 10, order: 'abc' };
    expect(readCursor(JSON.parse(JSON.stringify(cursor)), 'abc', 10)).toEqual(cursor);
  });

  it.each([
    null,
    7,
    {},
    { epoch: 0, position: 11, order: 'abc' },
    { epoch: -1, position: 0, order: 'abc' },
    { epoch: 0.5, position: 0, order: 'abc' },
    { epoch: 0, position: '1', order: 'abc' },
    { epoch: 0, position: 1, order: 'other' },
  ])('is refused: %j', (saved) => {
    expect(() => readCursor(saved, 'abc', 10)).toThrow(
      expect.objectContaining({ code: 'E_CURSOR' }) as Error,
    );
  });
});
