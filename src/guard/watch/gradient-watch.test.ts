import { describe, expect, test } from 'vitest';
import { GradientWatch } from './gradient-watch.js';

const NAMES = ['a.weight', 'b.weight', 'k_proj.bias'];
/** Of so many updates with these norms, what the last one tells. */
function after(watch: GradientWatch, updates: number, norms: readonly number[]): string[] {
  let told: string[] = [];
  for (let i = 0; i < updates; i++) told = watch.add(NAMES, Float32Array.from(norms));
  return told;
}

test('a tensor without a gradient in its first ten updates is told, once', () => {
  const watch = new GradientWatch();
  expect(after(watch, 9, [1, 0, 0])).toEqual([]);
  expect(after(watch, 1, [1, 0, 0])).toEqual(['b.weight']);
  expect(after(watch, 20, [1, 0, 0])).toEqual([]);
  expect(watch.stopped).toBe(false);
});

test('a tensor that had one once is not, nor one of which nothing came in between', () => {
  const watch = new GradientWatch();
  after(watch, 1, [0, 1, 0]);
  expect(after(watch, 9, [1, 0, 0])).toEqual([]);
  expect(after(watch, 9, [1, 0, 0])).toEqual([]);
});

describe('where no tensor gets one', () => {
  test('from the first update on, each is told', () => {
    const watch = new GradientWatch();
    expect(after(watch, 10, [0, 0, 0])).toEqual(['a.weight', 'b.weight']);
  });

  test('any more, the run has stopped: tensors that were not reached before are not to blame', () => {
    const watch = new GradientWatch();
    after(watch, 1, [1, 0, 0]);
    expect(after(watch, 9, [0, 0, 0])).toEqual([]);
    expect(watch.stopped).toBe(false);
    expect(after(watch, 10, [0, 0, 0])).toEqual([]);
    expect(watch.stopped).toBe(true);
    after(watch, 1, [0, 1, 0]);
    expect(watch.stopped).toBe(false);
  });
});
