import { expect, test } from 'vitest';
import { inBackground } from './background.js';
import { liveTensors, tensor, zeros } from './index.js';

test('operators run in order on another thread, also on tensors that are disposed meanwhile', async () => {
  const before = liveTensors();
  const [sum, one] = [zeros([3]), tensor([1, 2, 3])];
  const first = inBackground(() => {
    sum.add_(one);
    sum.add_(one, { alpha: 10 });
  });
  const second = inBackground(() => sum.fill_(7));
  one.dispose();
  await first;
  await second;
  expect(sum.toArray()).toEqual([7, 7, 7]);
  sum.dispose();
  expect(liveTensors()).toBe(before);
});

test('what gives a new tensor is refused, and nothing of it is done', async () => {
  const x = tensor([1, 2]);
  const run = inBackground(() => {
    x.add_(1);
    x.add(1);
  });
  await expect(run).rejects.toThrow(/put off/);
  expect(x.toArray()).toEqual([1, 2]);
  expect(x.add(1).toArray()).toEqual([2, 3]);
});

test('what fails there fails here', async () => {
  const [x, y] = [zeros([2]), zeros([3])];
  await expect(inBackground(() => x.add_(y))).rejects.toMatchObject({ name: 'OperatorError' });
});
