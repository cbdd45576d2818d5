import { describe, expect, test } from 'vitest';

import { bootstrap, mcnemar, wilson } from './statistics.js';

describe("Wilson's interval", () => {
  // Newcombe (1998), Statistics in Medicine 17, table I, method 3.
  test.each([
    [81, 263, 0.2553, 0.3662],
    [15, 148, 0.0624, 0.1605],
    [0, 20, 0, 0.1611],
    [1, 29, 0.0061, 0.1718],
  ])('%i of %i', (right, n, low, high) => {
    const [from, to] = wilson(right, n);
    expect(from).toBeCloseTo(low, 4);
    expect(to).toBeCloseTo(high, 4);
  });

  test('holds the share itself at both ends', () => {
    expect(wilson(0, 3)[0]).toBe(0);
    expect(wilson(3, 3)[1]).toBe(1);
  });
});

describe("McNemar's exact test", () => {
  test.each([
    [0, 0, 1],
    [5, 5, 1],
    [0, 5, 2 / 32],
    [1, 7, (2 * 9) / 256],
    // 2 * P(X <= 40) of 100 fair throws
    [40, 60, 0.05688793364098078],
  ])('%i against %i', (a, b, p) => {
    expect(mcnemar(a, b)).toBeCloseTo(p, 10);
    expect(mcnemar(b, a)).toBe(mcnemar(a, b));
  });
});

describe('the bootstrap', () => {
  const mean = (drawn: readonly number[]): number =>
    drawn.reduce((sum, each) => sum + each, 0) / drawn.length;

  test('of a share is near to the interval of a share', async () => {
    const units = Array.from({ length: 400 }, (_, i) => Number(i < 120));
    const [low, high] = await bootstrap([units], mean);
    expect(low).toBeCloseTo(wilson(120, 400)[0], 1);
    expect(high).toBeCloseTo(wilson(120, 400)[1], 1);
    expect(low).toBeLessThan(0.3);
    expect(high).toBeGreaterThan(0.3);
    expect(await bootstrap([units], mean)).toEqual([low, high]);
    expect(await bootstrap([units], mean, { seed: 1 })).not.toEqual([low, high]);
  });

  test('draws strata among themselves', async () => {
    expect(
      await bootstrap(
        [
          [0, 0],
          [1, 1, 1, 1],
        ],
        mean,
      ),
    ).toEqual([4 / 6, 4 / 6]);
  });

  test('stops where it is told to, within a draw', async () => {
    const stop = new AbortController();
    let draws = 0;
    const drawn = bootstrap([[1, 2]], () => ++draws, { signal: stop.signal });
    setImmediate(() => stop.abort(new Error('enough')));
    await expect(drawn).rejects.toThrow('enough');
    expect(draws).toBeLessThan(10);
  });
});
