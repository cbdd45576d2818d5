import { afterEach, expect, test } from 'vitest';
import { full, scope, type Tensor } from '../torch/index.js';
import { AdaptiveClip } from './adaptive-clip.js';

const open: { dispose(): void }[] = [];
afterEach(() => {
  for (const each of open.splice(0)) each.dispose();
});

const scalar = (value: number): Tensor => full([], value, { dtype: 'float32' });

function clipAfter(norms: readonly number[]): AdaptiveClip {
  const clip = new AdaptiveClip('cpu');
  open.push(clip);
  for (const norm of norms) scope(() => clip.take(scalar(norm), scalar(0)));
  return clip;
}
const limit = (clip: AdaptiveClip, norm: number): number =>
  scope(() => clip.limit(scalar(norm)).item());
const state = (clip: AdaptiveClip): number[] =>
  [...clip.state().values()].map((each) => each.item());

/** Norms around 4, by a fifth. */
const ordinary = Array.from({ length: 60 }, (_, i) => 4 * Math.exp(0.2 * Math.sin(i * 2.4)));

test('clips to 1 until it knows what is ordinary, and then only what is far out, the farther the more', () => {
  expect(limit(clipAfter(ordinary.slice(0, 20)), 4)).toBe(1);
  const clip = clipAfter(ordinary);
  expect(limit(clip, 4)).toBe(Infinity);
  expect(limit(clip, 5)).toBe(Infinity);
  const [far, farther] = [limit(clip, 20), limit(clip, 2000)];
  expect(far).toBeGreaterThan(4);
  expect(far).toBeLessThan(7);
  expect(farther).toBeLessThan(far);
  expect(farther).toBeGreaterThan(4);
});

test('an outlier hardly moves what is ordinary; what is not finite or left out not at all', () => {
  const clip = clipAfter(ordinary);
  const before = state(clip);
  for (const [norm, foundInf] of [
    [NaN, 1],
    [Infinity, 1],
    [NaN, 0],
    [9, 1],
  ]) {
    scope(() => clip.take(scalar(norm!), scalar(foundInf!)));
  }
  expect(state(clip)).toEqual(before);
  scope(() => clip.take(scalar(1e6), scalar(0)));
  expect(Math.exp(state(clip)[0]! - before[0]!)).toBeLessThan(1.05);
  expect(limit(clip, 2000)).toBeLessThan(7);
});
