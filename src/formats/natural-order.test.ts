import fc from 'fast-check';
import { expect, test } from 'vitest';

import { cases } from '../base/testing.js';
import { naturalOrder } from './natural-order.js';

test('counts as people do', () => {
  const names = ['layers.10.w', 'layers.2.w', 'layers.2.b', 'embed', 'layers.02.a'];
  expect(names.sort(naturalOrder)).toEqual([
    'embed',
    'layers.02.a',
    'layers.2.b',
    'layers.2.w',
    'layers.10.w',
  ]);
});

test('is an order', () => {
  const name = fc.string({ unit: fc.constantFrom('a', '.', '0', '1', '9') });
  fc.assert(
    fc.property(name, name, name, (a, b, c) => {
      expect(Math.sign(naturalOrder(a, b))).toBe(-Math.sign(naturalOrder(b, a)) + 0);
      if (naturalOrder(a, b) === 0) expect(a).toBe(b);
      if (naturalOrder(a, b) < 0 && naturalOrder(b, c) < 0)
        expect(naturalOrder(a, c)).toBeLessThan(0);
    }),
    { numRuns: cases(200) },
  );
});
