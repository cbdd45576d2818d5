import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { holdOut, shares } from './split.js';

describe('a limit over several sources', () => {
  it('takes shares in proportion', () => {
    expect(shares([600, 300, 100], 10)).toEqual([6, 3, 1]);
    expect(shares([5, 5, 5], 4)).toEqual([2, 1, 1]);
    expect(shares([3, 2], 9)).toEqual([3, 2]);
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 1000 }), { minLength: 1 }),
        fc.integer({ min: 1, max: 3000 }),
        (counts, limit) => {
          const taken = shares(counts, limit);
          const sum = (list: number[]): number => list.reduce((a, b) => a + b);
          expect(sum(taken)).toBe(Math.min(limit, sum(counts)));
          taken.forEach((n, i) => expect(n).toBeLessThanOrEqual(counts[i]!));
        },
      ),
    );
  });
});

describe('records held out', () => {
  const lists = [Uint32Array.of(0, 1, 2, 3, 4, 5), Uint32Array.of(9, 10, 11, 12)];

  it('are a share of all, chosen by the seed', () => {
    const { train, heldOut } = holdOut(lists, 0.3, 1);
    expect(heldOut).toHaveLength(3);
    const together = [...train.flatMap((list) => [...list]), ...heldOut].sort((a, b) => a - b);
    expect(together).toEqual(lists.flatMap((list) => [...list]));
    expect(holdOut(lists, 0.3, 1)).toEqual({ train, heldOut });
    const others = Array.from({ length: 9 }, (_, seed) => holdOut(lists, 0.3, seed).heldOut.join());
    expect(new Set(others).size).toBeGreaterThan(3);
  });

  it('are one at least', () => {
    expect(holdOut(lists, 0.001, 1).heldOut).toHaveLength(1);
  });
});
