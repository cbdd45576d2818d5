import { expect, test } from 'vitest';

import { checkRecipe, effectiveBatch } from '../../config/index.js';
import { planRun } from './run-plan.js';
import { scheduleWarnings } from './schedule-warnings.js';

function warnings(schedule: object, groups: object[] = [], from = 0): [string, string][] {
  const recipe = checkRecipe({
    name: 'x',
    model: { from: 'x' },
    data: { sources: ['x'] },
    optimizer: { learningRate: 1, groups },
    schedule,
  });
  const data = { recordsPerEpoch: 8, updatesPerEpoch: () => 8 };
  const plan = planRun(recipe, effectiveBatch(recipe, 1), data);
  return scheduleWarnings(plan, recipe, from).map(({ code, message }) => [code, message]);
}
const codes = (...options: Parameters<typeof warnings>): string[] =>
  warnings(...options).map(([code]) => code);

test.each<[object, string[]]>([
  [{}, []],
  [{ updates: 2 }, []],
  [{ updates: 1 }, ['nothing-learned']],
  [{ updates: 1, warmupRatio: 0 }, []],
  [{ warmupUpdates: 7 }, []],
  [{ warmupUpdates: 8 }, ['warm-up-too-long']],
  [{ warmupUpdates: 800 }, ['warm-up-too-long']],
  [{ decay: 'constant', finalRatio: 0.1 }, ['final-ratio-unused']],
  [{ decay: 'linear', finalRatio: 0.1 }, []],
])('%j: %j', (schedule, expected) => {
  expect(codes(schedule)).toEqual(expected);
});

test('they say what there is to change', () => {
  expect(warnings({ updates: 1 })[0]![1]).toMatch(/0 in the only update.*warmupUpdates/);
  expect(warnings({ warmupUpdates: 800 })[0]![1]).toMatch(/no more than 0\.875 % of its peak/);
});

test('a run that is done has nothing more to learn, which is no fault', () => {
  expect(codes({ warmupUpdates: 800 }, [], 8)).toEqual([]);
});

test('parameters that train at a rate of 0 are told', () => {
  expect(warnings({}, [{ parameters: '*.bias', learningRate: 0 }])).toEqual([
    [
      'zero-learning-rate',
      '`optimizer.groups` gives *.bias a learning rate of 0: it does not learn',
    ],
  ]);
});
