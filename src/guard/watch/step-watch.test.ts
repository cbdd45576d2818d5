import { expect, test } from 'vitest';
import { StepWatch, type OddSteps } from './step-watch.js';

const add = (
  watch: StepWatch,
  ratio: number,
  more: { group?: string; gradient?: number; learningRate?: number } = {},
): OddSteps | null => {
  const { group = 'all', gradient = 1, learningRate = 1e-3 } = more;
  return watch.add({ learningRate, step: { group, tensor: `${group}.weight`, ratio } }, gradient);
};
const times = (count: number, step: () => OddSteps | null): (OddSteps | null)[] =>
  Array.from({ length: count }, step);

test('two large steps of a group in a row are told, with those of others between them', () => {
  const watch = new StepWatch();
  expect([add(watch, 0.9), add(watch, 1e-4, { group: 'other' })]).toEqual([null, null]);
  expect(add(watch, 0.3)).toEqual({ kind: 'large', tensor: 'all.weight', ratio: 0.6 });
  const broken = new StepWatch();
  const ratios = [0.9, 0.1, 0.9, 0.05];
  expect(ratios.map((ratio) => add(broken, ratio))).toEqual([null, null, null, null]);
});

test('steps are as large where nothing but momentum moves weights', () => {
  const watch = new StepWatch();
  expect(add(watch, 6541)).toBeNull();
  expect(add(watch, 0.5, { gradient: 0 })).toMatchObject({ kind: 'large' });
});

test('twenty steps below what fp32 resolves are told, and none that has no gradient or no rate', () => {
  const watch = new StepWatch();
  expect(times(19, () => add(watch, 1e-9))).toEqual(Array(19).fill(null));
  expect(add(watch, 0)).toEqual({ kind: 'small', tensor: 'all.weight', ratio: 1e-9 });
  const still = new StepWatch();
  expect(times(30, () => add(still, 0, { gradient: 0 }))).toEqual(Array(30).fill(null));
  expect(times(30, () => add(still, 0, { learningRate: 0 }))).toEqual(Array(30).fill(null));
  expect(still.usual).toBeNull();
});

test('one step that is resolved makes the others no fault', () => {
  const watch = new StepWatch();
  const found = times(40, () => add(watch, 1e-9)).slice(0, 19);
  expect(found).toEqual(Array(19).fill(null));
  const other = new StepWatch();
  times(15, () => add(other, 1e-9));
  add(other, 1e-5);
  expect(times(15, () => add(other, 1e-9))).toEqual(Array(15).fill(null));
});

test('what is usual is the median of the group that moves most', () => {
  const watch = new StepWatch();
  for (const ratio of [1e-3, 2e-3, 9e-3]) add(watch, ratio);
  for (const ratio of [1e-5, 2e-5]) add(watch, ratio, { group: 'other' });
  expect(watch.usual).toBe(2e-3);
});
