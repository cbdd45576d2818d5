import { expect, test } from 'vitest';
import { CPU_KERNELS, kernelsFor } from './kernels.js';

test.each([
  ['cpu', 'bfloat16', undefined, 'cpu', 'convolution'],
  ['meta', 'bfloat16', undefined, 'cpu', 'convolution'],
  ['cuda:0', 'bfloat16', 9, 'cudnn', 'product'],
  ['cuda', 'float16', 8, 'cudnn', 'product'],
  ['cuda:0', 'bfloat16', 7.5, 'efficient', 'product'],
  ['cuda:0', 'float32', 9, 'efficient', 'product'],
  ['cuda:0', 'float64', 9, 'math', 'product'],
] as const)(
  'on %s in %s, capability %s',
  (device, dtype, computeCapability, attention, patches) => {
    const target = computeCapability === undefined ? {} : { computeCapability };
    expect(kernelsFor({ device, dtype, ...target })).toEqual({ attention, patches });
  },
);

test('a card that this machine lacks has the kernels of the oldest', () => {
  const kernels = kernelsFor({ device: 'cuda:99', dtype: 'bfloat16' });
  expect(kernels.attention).toBe('efficient');
  expect(kernelsFor({ device: 'cpu', dtype: 'float32' })).toBe(CPU_KERNELS);
});
