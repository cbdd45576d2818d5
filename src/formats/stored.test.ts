import { expect, test } from 'vitest';

import { readDense, type StoredTensor } from './stored.js';

const bytes = (values: number[]): Uint8Array => new Uint8Array(new Float32Array(values).buffer);
const numbers = (data: Uint8Array): number[] => [...new Float32Array(data.slice().buffer)];

const tensor: StoredTensor = {
  name: 'x',
  dtype: 'F32',
  shape: [3, 2],
  strides: [1, 3],
  file: 'none',
  offset: 4,
  bytes: 24,
  data: bytes([9, 0, 1, 2, 3, 4, 5]),
};

test('gathers strided elements', async () => {
  expect(numbers(await readDense(tensor, 24))).toEqual([0, 3, 1, 4, 2, 5]);
  const expanded = { ...tensor, shape: [2, 3], strides: [1, 0], bytes: 8 };
  expect(numbers(await readDense(expanded, 24))).toEqual([0, 0, 0, 1, 1, 1]);
});
