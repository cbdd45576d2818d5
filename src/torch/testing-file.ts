/** For tests: tensors of a safetensors file that holds what another library has computed. */

import { readFileSync } from 'node:fs';
import { expect } from 'vitest';
import { fromBytes, type DType, type Tensor } from './index.js';

const DTYPES: Readonly<Record<string, DType>> = {
  ...{ F32: 'float32', F16: 'float16', BF16: 'bfloat16', U8: 'uint8', I64: 'int64' },
};

/** The tensors of a file by their names. */
export function tensorsOf(path: string): (name: string) => Tensor {
  const bytes = readFileSync(path);
  const start = 8 + Number(bytes.readBigUInt64LE(0));
  const entries = JSON.parse(bytes.toString('utf8', 8, start)) as Record<
    string,
    { dtype: string; shape: number[]; data_offsets: [number, number] }
  >;
  return (name) => {
    const { dtype, shape, data_offsets: at } = entries[name]!;
    return fromBytes(bytes.subarray(start + at[0], start + at[1]), shape, DTYPES[dtype]!);
  };
}

/** Equal to the bit. */
export function expectSame(actual: Tensor, expected: Tensor, what = ''): void {
  expect([actual.shape, actual.dtype], what).toEqual([expected.shape, expected.dtype]);
  expect(Buffer.from(actual.toBytes()).equals(expected.toBytes()), what).toBe(true);
}
