import fc from 'fast-check';
import { expect, test } from 'vitest';

import { Duplicates } from './duplicates.js';
import { drawLengths, Lengths } from './lengths.js';

test('shares, longest and bars are those of the lengths', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1 }), (values) => {
      const lengths = new Lengths();
      for (const value of values) lengths.add(value);
      const sorted = [...values].sort((a, b) => a - b);
      const { median, p99, longest, histogram } = lengths.facts();
      expect(median).toBe(sorted[Math.ceil(0.5 * sorted.length) - 1]);
      expect(p99).toBe(sorted[Math.ceil(0.99 * sorted.length) - 1]);
      expect(longest).toBe(sorted.at(-1));
      expect(lengths.total).toBe(values.reduce((sum, value) => sum + value, 0));
      const step = histogram[0]!.upTo;
      for (const { upTo, records } of histogram) {
        const within = values.filter((value) => value > upTo - step && value <= upTo);
        expect(records).toBe(within.length);
      }
    }),
  );
});

test('bars are drawn in proportion; lengths beyond the limit are in the last one', () => {
  const lengths = new Lengths();
  for (const value of [10, 20, 20, 2 ** 20]) lengths.add(value);
  const lines = drawLengths(lengths.facts());
  expect(lines[0]).toMatch(/^ *100000 █{40} 3$/);
  expect(lines.at(-1)).toMatch(/█{13}▍ 1$/);
});

test('a record is a duplicate of the first with the same content, whatever lies between', () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 0, max: 30 })), (values) => {
      const duplicates = new Duplicates(values.length);
      values.forEach((value, i) => {
        const first = values.indexOf(value);
        // Digests that fall on neighbouring slots.
        const before = duplicates.add(i, [value % 4, value + 1]);
        expect(before).toBe(first < i ? first : undefined);
      });
    }),
  );
});

test('what could not be read is no duplicate', () => {
  const duplicates = new Duplicates(2);
  expect(duplicates.add(0, [0, 0])).toBeUndefined();
  expect(duplicates.add(1, [0, 0])).toBeUndefined();
});
