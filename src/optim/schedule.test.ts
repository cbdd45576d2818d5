import fc from 'fast-check';
import { expect, test } from 'vitest';
import { schedule, warmupUpdates } from './schedule.js';

test('cosine with warm-up, as transformers counts it', () => {
  const rate = schedule({ updates: 50, warmup: 5 });
  expect(rate(0)).toBe(0);
  expect(rate(1)).toBeCloseTo(0.2, 12);
  expect(rate(5)).toBe(1);
  expect(rate(49)).toBeCloseTo(0.5 * (1 + Math.cos((Math.PI * 44) / 45)), 12);
});

test('linear and constant', () => {
  expect(schedule({ shape: 'linear', updates: 11, warmup: 1 })(6)).toBeCloseTo(0.5, 12);
  expect(schedule({ shape: 'constant', updates: 10, warmup: 2 })(9)).toBe(1);
  expect(schedule({ shape: 'linear', updates: 10, floor: 0.1 })(10)).toBeCloseTo(0.1, 12);
});

test('every schedule stays between 0 and 1', () => {
  fc.assert(
    fc.property(
      fc.constantFrom('cosine', 'linear', 'constant'),
      fc.integer({ min: 1, max: 1000 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (shape, updates, ratio, floor) => {
        const rate = schedule({ shape, updates, warmup: warmupUpdates(ratio, updates), floor });
        for (let u = 0; u <= updates + 3; u++) {
          expect(rate(u)).toBeGreaterThanOrEqual(0);
          expect(rate(u)).toBeLessThanOrEqual(1);
        }
      },
    ),
    { numRuns: 50 },
  );
});

test('numbers that make no schedule are refused', () => {
  for (const options of [
    { updates: 0 },
    { updates: 1.5 },
    { updates: 1, warmup: -1 },
    { updates: 1, floor: 2 },
  ]) {
    expect(() => schedule(options)).toThrow(
      expect.objectContaining({ code: 'E_SCHEDULE' }) as Error,
    );
  }
});
