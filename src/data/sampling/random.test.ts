import { describe, expect, it } from 'vitest';

import { Random } from './random.js';

describe('random numbers', () => {
  it('are the same on every machine and in every version', () => {
    const random = new Random(7, 'epoch', 0);
    expect(Array.from({ length: 6 }, () => random.below(1000))).toMatchInlineSnapshot(`
      [
        434,
        35,
        292,
        636,
        498,
        574,
      ]
    `);
    expect(new Random(1).shuffle([0, 1, 2, 3, 4, 5, 6, 7])).toMatchInlineSnapshot(`
      [
        2,
        6,
        0,
        5,
        3,
        7,
        4,
        1,
      ]
    `);
  });

  it('are uniform, and different for different parts', () => {
    const counts = new Array<number>(7).fill(0);
    const random = new Random('uniform');
    for (let i = 0; i < 70_000; i++) counts[random.below(7)]!++;
    // Five standard deviations of a binomial count around 10,000.
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(5 * 93);
    const first = (...parts: number[]): number => new Random(...parts).below(2 ** 32);
    expect(new Set([first(0), first(1), first(0, 0), first(0, 1), first(1, 0)]).size).toBe(5);
  });

  it('draw every subset, in its old order', () => {
    const values = Uint32Array.of(30, 10, 20);
    const seen = new Set(
      Array.from({ length: 60 }, (_, i) => new Random(i).subset(values, 2).join()),
    );
    expect([...seen].sort()).toEqual(['10,20', '30,10', '30,20']);
    expect(new Random(0).subset(values, 0)).toHaveLength(0);
  });
});
