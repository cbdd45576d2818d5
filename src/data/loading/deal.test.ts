import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { deal, type Share } from './deal.js';

const cut = fc.record({
  batchSize: fc.integer({ min: 1, max: 5 }),
  worldSize: fc.integer({ min: 1, max: 6 }),
});
const lengths = fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 1, maxLength: 60 });
const sorted = (list: readonly number[]): number[] => [...list].sort((a, b) => a - b);

describe('records that are dealt', () => {
  it('come once, in as many micro-batches on every rank, none of which is too large', () => {
    fc.assert(
      fc.property(lengths, cut, (each, shape) => {
        const shares = deal(each, shape);
        const { batchSize, worldSize } = shape;
        expect(shares).toHaveLength(worldSize);
        const steps = Math.ceil(each.length / (batchSize * worldSize));
        expect(shares.map((share) => share.length)).toEqual(shares.map(() => steps));
        expect(Math.max(...shares.flat().map((places) => places.length))).toBeLessThanOrEqual(
          batchSize,
        );
        expect(sorted(shares.flat(2))).toEqual(each.map((_, place) => place));
      }),
    );
  });

  it('keep their order on one rank', () => {
    expect(deal([1, 9, 3, 7, 5], { batchSize: 2, worldSize: 1 })).toEqual([[[0, 1], [2, 3], [4]]]);
  });

  it('leave no rank with much more than another', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 4000 }), { minLength: 8, maxLength: 60 }),
        fc.integer({ min: 2, max: 8 }),
        (each, worldSize) => {
          const tokens = (share: Share): number =>
            share.flat().reduce((sum, place) => sum + each[place]!, 0);
          // Room for all, so that nothing but length decides.
          const loads = deal(each, { batchSize: each.length, worldSize }).map(tokens);
          // Of the least loaded first, no load is above another by more than one record.
          expect(Math.max(...loads) - Math.min(...loads)).toBeLessThanOrEqual(Math.max(...each));
        },
      ),
    );
  });

  it('put micro-batches of like length in one step, and the longest not always on the same rank', () => {
    const shares = deal([40, 30, 20, 10], { batchSize: 1, worldSize: 2 });
    expect(shares).toEqual([
      [[0], [3]],
      [[1], [2]],
    ]);
  });
});
