import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { checkRecipe, effectiveBatch } from '../../config/index.js';
import { courseOf, describeChange, planRest, planRun, type RunPlan } from './run-plan.js';

interface Shape {
  readonly batchSize: number;
  readonly accumulate: number;
}

function plan(records: number, shape: Shape, schedule: object = {}): RunPlan {
  const recipe = checkRecipe({
    name: 'x',
    model: { from: 'x' },
    data: { sources: ['x'] },
    optimizer: { learningRate: 1 },
    schedule,
    ...shape,
  });
  const data = {
    recordsPerEpoch: records,
    updatesPerEpoch: ({ batchSize, accumulate = 1 }: Partial<Shape> & { batchSize: number }) =>
      Math.ceil(records / (batchSize * accumulate)),
  };
  return planRun(recipe, effectiveBatch(recipe, 1), data);
}
const by = (batchSize: number): Shape => ({ batchSize, accumulate: 1 });
const rates = (of: RunPlan, from = 0): number[] =>
  Array.from({ length: of.planned - from }, (_, i) => courseOf(of)(from + i));

/** Goes on after `update` updates that have done the first `records` records. */
function goOn(before: RunPlan, fresh: RunPlan, update: number, done: number, records = 32) {
  const place = { epoch: Math.floor(done / records), position: done % records };
  const standing = { update, place, before };
  const now = planRest(fresh, standing, { recordsPerEpoch: records });
  return { now, said: describeChange(now, standing) };
}

test('a run is as long as its epochs are in records, none of which goes into the next', () => {
  expect(plan(32, by(4))).toMatchObject({ planned: 8, perEpoch: 8, warmup: 1, epochs: 1 });
  expect(plan(10, by(4), { epochs: 2 })).toMatchObject({ planned: 6, perEpoch: 3, until: 20 });
  expect(plan(10, by(4), { epochs: 0.3 })).toMatchObject({ planned: 1, until: 3 });
  expect(plan(10, by(4), { updates: 5 })).toMatchObject({ planned: 5, until: null });
});

describe('a run that goes on', () => {
  test('unchanged has the very plan that it had, and nothing to say', () => {
    const before = plan(32, by(4), { epochs: 2 });
    expect(goOn(before, plan(32, by(4), { epochs: 2 }), 5, 20)).toEqual({
      now: before,
      said: undefined,
    });
  });

  test.each([
    [8, 2],
    [2, 8],
    [3, 6],
    [32, 1],
  ])(
    'with batches of %i has %i updates for half of its records, and no rate goes up',
    (batch, left) => {
      const before = plan(32, by(4));
      const { now, said } = goOn(before, plan(32, by(batch)), 4, 16);
      expect(now.planned).toBe(4 + left);
      const course = [...rates(before).slice(0, 4), ...rates(now, 4)];
      expect(course[4]).toBe(rates(before)[4]);
      for (let i = 2; i < course.length; i++) expect(course[i]).toBeLessThan(course[i - 1]!);
      expect(said).toContain(`${batch} records an update in place of 4`);
      expect(said).toContain(`${left} updates cover the records that are left`);
    },
  );

  test('whose warm-up is over does not begin another', () => {
    const settings = { warmupUpdates: 4, decay: 'constant' };
    const { now } = goOn(plan(32, by(2), settings), plan(32, by(8), settings), 8, 16);
    expect(rates(now, 8)).toEqual([1, 1]);
  });

  test('in its warm-up goes on with it by its share', () => {
    const settings = { warmupUpdates: 8, decay: 'constant' };
    const { now } = goOn(plan(32, by(2), settings), plan(32, by(4), settings), 4, 8);
    expect(rates(now, 4)).toEqual([0.5, 0.75, 1, 1, 1, 1]);
  });

  test('for as many updates as were asked for has so many with any batch', () => {
    const settings = { updates: 8 };
    const { now, said } = goOn(plan(32, by(4), settings), plan(32, by(8), settings), 4, 16);
    expect(now.planned).toBe(8);
    expect(rates(now)).toEqual(rates(plan(32, by(4), settings)));
    expect(said).toContain('4 updates are left of the 8 asked for');
  });

  test('longer than it was is where it would be had it been so long from the beginning', () => {
    const longer = plan(32, by(4), { epochs: 2 });
    const { now, said } = goOn(plan(32, by(4)), longer, 8, 32);
    expect(now.planned).toBe(16);
    expect(rates(now, 8)).toEqual(rates(longer, 8));
    expect(said).toContain('another schedule');
  });

  test('beyond its new length is at its end', () => {
    const { now } = goOn(plan(32, by(4), { epochs: 3 }), plan(32, by(4), { epochs: 1 }), 10, 40);
    expect(now.planned).toBe(10);
  });

  test('changed again and again moves from rate to rate without a jump, to where a run ends', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom('cosine', 'linear', 'constant'),
        fc.array(
          fc.record({
            batch: fc.integer({ min: 1, max: 9 }),
            updates: fc.integer({ min: 1, max: 5 }),
          }),
          { minLength: 1, maxLength: 5 },
        ),
        (epochs, decay, sittings) => {
          const settings = { epochs, decay };
          let now = plan(32, by(4), settings);
          let [update, done] = [0, 0];
          for (const { batch, updates } of sittings) {
            const before = now;
            now = goOn(before, plan(32, by(batch), settings), update, done).now;
            expect(courseOf(now)(update)).toBeCloseTo(courseOf(before)(update), 12);
            for (let i = 0; i < updates && update < now.planned; i++) {
              const rest = 32 - (done % 32);
              done += Math.min(batch, rest);
              update++;
            }
            // Without a change, to the bit.
            expect(goOn(now, plan(32, by(batch), settings), update, done).now).toEqual(now);
          }
          expect(done).toBeLessThanOrEqual(32 * epochs);
          if (update === now.planned) expect(done).toBe(32 * epochs);
          expect(courseOf(now)(now.planned)).toBeCloseTo(decay === 'constant' ? 1 : 0, 9);
        },
      ),
    );
  });
});
