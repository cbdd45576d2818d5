import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { pack, type Budget, type RecordSize } from './pack.js';

const texts = (...tokens: number[]): RecordSize[] =>
  tokens.map((each) => ({ tokens: each, images: 0 }));
const sorted = (list: readonly number[]): number[] => [...list].sort((a, b) => a - b);

/** Records of which each fits the budget. */
const cases = fc
  .record({ tokens: fc.integer({ min: 1, max: 5000 }), images: fc.integer({ min: 1, max: 6 }) })
  .chain((budget) =>
    fc.record({
      budget: fc.constantFrom<Budget>(budget, { tokens: budget.tokens }),
      sizes: fc.array(
        fc.record({
          tokens: fc.integer({ min: 1, max: budget.tokens }),
          images: fc.integer({ min: 0, max: budget.images }),
        }),
        { maxLength: 60 },
      ),
    }),
  );

describe('packing', () => {
  it('gives every record once, beyond no budget, the same each time', () => {
    fc.assert(
      fc.property(cases, ({ sizes, budget }) => {
        const bins = pack(sizes, budget);
        expect(sorted(bins.flat())).toEqual(sizes.map((_, place) => place));
        for (const bin of bins) {
          expect(bin.length).toBeGreaterThan(0);
          expect(bin).toEqual(sorted(bin));
          const sum = (of: (size: RecordSize) => number) =>
            bin.reduce((total, place) => total + of(sizes[place]!), 0);
          expect(sum(({ tokens }) => tokens)).toBeLessThanOrEqual(budget.tokens);
          expect(sum(({ images }) => images)).toBeLessThanOrEqual(budget.images ?? Infinity);
        }
        expect(pack(sizes, budget)).toEqual(bins);
      }),
    );
  });

  it('leaves no two micro-batches that would fit into one', () => {
    fc.assert(
      fc.property(cases, ({ sizes, budget }) => {
        const loads = pack(sizes, budget).map((bin) => ({
          tokens: bin.reduce((total, place) => total + sizes[place]!.tokens, 0),
          images: bin.reduce((total, place) => total + sizes[place]!.images, 0),
        }));
        for (const [i, a] of loads.entries()) {
          for (const b of loads.slice(i + 1)) {
            const fit =
              a.tokens + b.tokens <= budget.tokens &&
              a.images + b.images <= (budget.images ?? Infinity);
            expect(fit).toBe(false);
          }
        }
      }),
    );
  });

  it('takes at most 11/9 of the fewest micro-batches, and one', () => {
    // Full ones, cut into records anywhere: as many again would hold them.
    const cuts = fc.array(fc.uniqueArray(fc.integer({ min: 1, max: 999 }), { maxLength: 8 }), {
      minLength: 1,
      maxLength: 12,
    });
    fc.assert(
      fc.property(cuts, fc.integer(), (full, seed) => {
        const lengths = full.flatMap((at) => {
          const ends = sorted([0, ...at, 1000]);
          return ends.slice(1).map((end, i) => end - ends[i]!);
        });
        const order = lengths.map((length, i) => [Math.sin(i * 12.9 + seed), length] as const);
        const mixed = order.sort(([a], [b]) => a - b).map(([, length]) => length);
        const { length } = pack(texts(...mixed), { tokens: 1000 });
        expect(length).toBeGreaterThanOrEqual(full.length);
        expect(length).toBeLessThanOrEqual((11 * full.length) / 9 + 1);
      }),
    );
  });

  it('puts a record where it leaves least room, the first of equal ones first', () => {
    expect(pack(texts(30, 60, 50, 40, 20), { tokens: 100 })).toEqual([
      [1, 3],
      [0, 2, 4],
    ]);
    expect(pack(texts(5, 5, 5, 5, 5), { tokens: 10 })).toEqual([[0, 1], [2, 3], [4]]);
    expect(pack(texts(100), { tokens: 100 })).toEqual([[0]]);
    expect(pack([], { tokens: 100 })).toEqual([]);
  });

  it('counts pictures where there is a limit of them', () => {
    const sizes = [2, 1, 1, 0, 2].map((images) => ({ tokens: 10, images }));
    expect(pack(sizes, { tokens: 1000 })).toEqual([[0, 1, 2, 3, 4]]);
    expect(pack(sizes, { tokens: 1000, images: 2 })).toEqual([[0, 3], [1, 2], [4]]);
  });

  it('refuses a record that no micro-batch holds', () => {
    expect(() => pack(texts(3, 101), { tokens: 100 })).toThrow(/101 tokens is beyond/);
    expect(() => pack([{ tokens: 1, images: 3 }], { tokens: 100, images: 2 })).toThrow(RangeError);
  });
});
