import { expect, test } from 'vitest';
import { empty, liveTensors, noGrad, tensor } from '../../torch/index.js';
import { HostCopy } from './host-copy.js';

test('the values come back after their source is gone, once and for as long as the copy lives', () => {
  const before = liveTensors();
  const source = tensor([
    [1, -2],
    [3.5, 4],
  ]);
  const copy = new HostCopy(source);
  noGrad(() => source.fill_(NaN));
  source.dispose();
  copy.fetch();
  expect(liveTensors()).toBe(before + 2); // host and device
  const back = copy.take();
  expect(back.toArray()).toEqual([
    [1, -2],
    [3.5, 4],
  ]);
  expect(copy.take()).toBe(back);
  copy.dispose();
  expect(liveTensors()).toBe(before);
});

test('a copy that nobody fetched, or fetched and never took, frees all it had', () => {
  const before = liveTensors();
  for (const fetches of [false, true]) {
    const source = tensor([1, 2]);
    const copy = new HostCopy(source);
    source.dispose();
    if (fetches) copy.fetch();
    copy.dispose();
  }
  expect(liveTensors()).toBe(before);
});

test('on meta the host copy is no tensor: it may not count as memory of the device', () => {
  const source = empty([4, 8], { device: 'meta', dtype: 'bfloat16' });
  const before = liveTensors();
  const copy = new HostCopy(source);
  expect(liveTensors()).toBe(before);
  const back = copy.take();
  expect([back.device, back.dtype, back.shape]).toEqual(['meta', 'bfloat16', [4, 8]]);
  copy.dispose();
  source.dispose();
});
