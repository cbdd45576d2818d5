import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test } from 'vitest';

import { readSafetensors } from '../../formats/safetensors/header.js';
import type { StoredTensor } from '../../formats/stored.js';
import { liveTensors, type Tensor } from '../../torch/index.js';
import { fixture, sameNumbers, temporaryFolder } from '../testing.js';
import { type Placement, placeTensors, type PlaceOptions } from './place.js';
import { readTensorFile, writeTensorFile } from './tensor-file.js';

let folder: string;
beforeAll(() => (folder = temporaryFolder()));
afterAll(() => rmSync(folder, { recursive: true }));

async function place(placements: Placement[], options?: PlaceOptions): Promise<Tensor[]> {
  const placed: Tensor[] = [];
  await placeTensors(placements, 'cpu', (tensor, i) => (placed[i] = tensor), options);
  return placed;
}

const float = (stored: StoredTensor): Placement => ({ stored, dtype: 'float32' });

test('the pieces make no difference', async () => {
  const path = fixture('llama31-tied-small', 'hf', 'model.safetensors');
  const { tensors } = await readSafetensors(path);
  const bytes = readFileSync(path);
  for (const pieceBytes of [4, 100, 4096, 2 ** 20]) {
    const few = tensors.filter(({ bytes: size }) => size / pieceBytes < 200);
    const placed = await place(few.map(float), { pieceBytes });
    few.forEach(({ name, offset, bytes: length }, i) => {
      const expected = bytes.subarray(offset, offset + length);
      expect(sameNumbers(placed[i]!.toBytes(), expected), name).toBe(true);
      placed[i]!.dispose();
    });
  }
});

test('views by their strides, bytes in memory, conversion, nothing at all', async () => {
  const file = join(folder, 'numbers');
  writeFileSync(file, new Uint8Array(Float32Array.of(0, 1, 2, 3, 4, 5).buffer));
  const stored = { dtype: 'F32', file, offset: 0, bytes: 24 } as const;
  const data = new Uint8Array(9);
  data.set(new Uint8Array(Float32Array.of(7, 8).buffer), 1);
  const placed = await place([
    { stored: { ...stored, name: 'transposed', shape: [3, 2], strides: [1, 3] }, dtype: 'float64' },
    float({ ...stored, name: 'repeated', shape: [2, 2], strides: [0, 1], offset: 4, bytes: 8 }),
    float({ name: 'unaligned', dtype: 'F32', shape: [2], file, offset: 1, bytes: 8, data }),
    { stored: { ...stored, name: 'halved', shape: [6] }, dtype: 'bfloat16' },
    float({ ...stored, name: 'empty', shape: [0, 4], bytes: 0 }),
    float({ ...stored, name: 'scalar', shape: [], offset: 12, bytes: 4 }),
  ]);
  expect(placed.map((tensor) => tensor.toArray())).toEqual([
    [
      [0, 3],
      [1, 4],
      [2, 5],
    ],
    [
      [1, 2],
      [1, 2],
    ],
    [7, 8],
    [0, 1, 2, 3, 4, 5],
    [],
    3,
  ]);
  expect(placed.map(({ dtype }) => dtype).slice(0, 4)).toEqual([
    'float64',
    'float32',
    'float32',
    'bfloat16',
  ]);
  for (const tensor of placed) tensor.dispose();
});

test('a file that is cut short, and a type that libtorch lacks, leave nothing behind', async () => {
  const before = liveTensors();
  const file = join(folder, 'short');
  writeFileSync(file, new Uint8Array(10));
  const stored = { name: 'x', dtype: 'F32', shape: [4], file, offset: 0, bytes: 16 } as const;
  await expect(place([float(stored)])).rejects.toMatchObject({ code: 'E_EXTENT' });
  const odd = { ...stored, dtype: 'F8_E8M0', shape: [4], bytes: 4 } as const;
  await expect(place([float(odd)])).rejects.toMatchObject({ code: 'E_STORED_DTYPE' });
  expect(liveTensors()).toBe(before);
});

test('what is written is read back, and written again the same', async () => {
  const source = fixture('llama31-tied-small', 'outputs.safetensors');
  const tensors = await readTensorFile(source);
  const [one, two] = [join(folder, 'one'), join(folder, 'two')];
  await writeTensorFile(one, tensors);
  await writeTensorFile(two, new Map([...tensors].reverse()));
  expect(readFileSync(two).equals(readFileSync(one))).toBe(true);
  const again = await readTensorFile(one);
  for (const [name, tensor] of tensors) {
    expect(sameNumbers(again.get(name)!.toBytes(), tensor.toBytes()), name).toBe(true);
    tensor.dispose();
    again.get(name)!.dispose();
  }
});
