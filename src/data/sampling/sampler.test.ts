import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { Sampler, type Population, type SamplerOptions } from './sampler.js';

const range = (first: number, count: number): Uint32Array =>
  Uint32Array.from({ length: count }, (_, i) => first + i);

/** How often each record comes. */
function tally(order: Iterable<number>): Map<number, number> {
  const counts = new Map<number, number>();
  for (const record of order) counts.set(record, (counts.get(record) ?? 0) + 1);
  return counts;
}

const populations = fc
  .array(fc.tuple(fc.integer({ min: 1, max: 40 }), fc.constantFrom(0.25, 0.5, 1, 1.5, 2, 3)), {
    minLength: 1,
    maxLength: 4,
  })
  .map((sources): Population[] => {
    let first = 0;
    return sources.map(([count, weight]) => {
      const records = range(first, count);
      first += count;
      return { records, weight };
    });
  });
const lengths = Int32Array.from(
  { length: 200 },
  (_, i) => (i % 3 ? 1 : -1) * (1 + ((i * 37) % 90)),
);
const grouping = fc.option(
  fc.record({
    batch: fc.integer({ min: 1, max: 12 }),
    lengths: fc.constant(lengths),
    byModality: fc.boolean(),
  }),
  { nil: undefined },
);
const options: fc.Arbitrary<SamplerOptions> = fc.record({
  populations,
  seed: fc.nat(),
  shuffle: fc.boolean(),
  grouping,
});

describe('the order of an epoch', () => {
  it('holds each record as often as its weight says', () => {
    fc.assert(
      fc.property(options, fc.nat(3), (given, epoch) => {
        const sampler = new Sampler(given);
        const order = sampler.order(epoch);
        const counts = tally(order);
        expect(order).toHaveLength(sampler.recordsPerEpoch);
        for (const { records, weight } of given.populations) {
          const seen = Array.from(records, (record) => counts.get(record) ?? 0);
          expect(seen.reduce((a, b) => a + b)).toBe(Math.round(records.length * weight));
          expect(Math.min(...seen)).toBeGreaterThanOrEqual(Math.floor(weight));
          expect(Math.max(...seen)).toBeLessThanOrEqual(Math.ceil(weight));
        }
      }),
    );
  });

  it('follows from the seed and the epoch alone', () => {
    fc.assert(
      fc.property(options, fc.nat(3), (given, epoch) => {
        const asked = new Sampler(given);
        asked.order(0);
        expect(asked.order(epoch)).toEqual(new Sampler(given).order(epoch));
      }),
    );
  });

  it('differs between epochs and seeds, and a part of a source is drawn anew', () => {
    const half = { populations: [{ records: range(0, 100), weight: 0.5 }], shuffle: false };
    const [one, two] = [0, 1].map((epoch) => new Sampler({ ...half, seed: 1 }).order(epoch));
    expect(one).not.toEqual(two);
    expect([...one!]).toEqual([...one!].sort((a, b) => a - b));
    const all = { populations: [{ records: range(0, 100), weight: 1 }], shuffle: true };
    const orders = [1, 2].flatMap((seed) =>
      [0, 1].map((epoch) => new Sampler({ ...all, seed }).order(epoch).join()),
    );
    expect(new Set(orders).size).toBe(4);
  });

  it('is that of the files without shuffling', () => {
    const sources = [range(0, 3), range(3, 2)].map((records) => ({ records, weight: 2 }));
    const order = new Sampler({ populations: sources, seed: 0, shuffle: false }).order(0);
    expect([...order]).toEqual([0, 1, 2, 0, 1, 2, 3, 4, 3, 4]);
  });
});
