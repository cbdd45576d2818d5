import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { groupByLength } from './group.js';
import { Random } from './random.js';

interface Case {
  signed: number[];
  batch: number;
  byModality: boolean;
  seed: number;
}

const cases: fc.Arbitrary<Case> = fc.record({
  signed: fc.array(
    fc.integer({ min: -500, max: 500 }).filter((length) => length !== 0),
    { minLength: 1, maxLength: 300 },
  ),
  batch: fc.integer({ min: 1, max: 16 }),
  byModality: fc.boolean(),
  seed: fc.nat(),
});

function group({ signed, batch, byModality, seed }: Case): number[][] {
  const random = new Random(seed);
  const records = random.shuffle(Uint32Array.from(signed, (_, i) => i));
  const lengths = Int32Array.from(signed);
  const order = [...groupByLength(records, { batch, lengths, byModality, random })];
  expect([...order].sort((a, b) => a - b)).toEqual(signed.map((_, i) => i));
  const batches: number[][] = [];
  for (let at = 0; at < order.length; at += batch) batches.push(order.slice(at, at + batch));
  return batches;
}

describe('batches of like length', () => {
  it('hold every record once and keep modalities apart but in one', () => {
    fc.assert(
      fc.property(cases, (given) => {
        const batches = group({ ...given, byModality: true });
        const mixed = batches.filter(
          (batch) => new Set(batch.map((record) => given.signed[record]! > 0)).size > 1,
        );
        expect(mixed.length).toBeLessThanOrEqual(1);
        // Batches that are full of one modality come before.
        if (mixed.length > 0)
          expect(batches.indexOf(mixed[0]!)).toBeGreaterThan(batches.length - 3);
      }),
    );
  });

  it('begin with the longest of all full batches, each by falling length', () => {
    fc.assert(
      fc.property(cases, (given) => {
        const length = (record: number): number => Math.abs(given.signed[record]!);
        const modalities = given.byModality
          ? [1, -1].map((sign) => given.signed.filter((l) => Math.sign(l) === sign).length)
          : [given.signed.length];
        const full = modalities.reduce((sum, n) => sum + Math.floor(n / given.batch), 0);
        const batches = group(given).slice(0, full);
        const longest = Math.max(...batches.map((batch) => length(batch[0]!)));
        if (full > 0) expect(length(batches[0]![0]!)).toBe(longest);
        for (const batch of batches) {
          const lengths = batch.map(length);
          expect(lengths).toEqual([...lengths].sort((a, b) => b - a));
        }
      }),
    );
  });

  it('waste far less on padding than random ones', () => {
    const random = new Random(3);
    const signed = Array.from({ length: 4000 }, () => 1 + random.below(1000));
    const padding = (batches: number[][]): number =>
      batches.reduce((sum, batch) => {
        const lengths = batch.map((record) => signed[record]!);
        return sum + Math.max(...lengths) * batch.length - lengths.reduce((a, b) => a + b);
      }, 0);
    const grouped = group({ signed, batch: 8, byModality: false, seed: 1 });
    const shuffled = random.shuffle(signed.map((_, i) => i));
    const plain = grouped.map((_, i) => shuffled.slice(8 * i, 8 * i + 8));
    expect(padding(grouped)).toBeLessThan(0.05 * padding(plain));
  });
});
