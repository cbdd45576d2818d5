import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { cases } from '../../base/testing.js';
import { readDense, STORED_DTYPES, type StoredDType, type StoredTensor } from '../stored.js';
import { PICKLES } from '../testing.js';
import { readWeightIndex } from '../weight-index.js';
import { readSafetensors } from './header.js';
import { tensorBytes } from './layout.js';
import { splitIntoShards, writeShards } from './shards.js';
import { encodeSafetensors, writeSafetensors, type TensorSource } from './write.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-safetensors-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const source = (tensor: StoredTensor): TensorSource => ({
  ...tensor,
  bytes: () => readDense(tensor, Infinity),
});

/** A tensor of zeros. */
const zeros = (name: string, dtype: StoredDType, shape: number[]): TensorSource => ({
  name,
  dtype,
  shape,
  bytes: () => new Uint8Array(tensorBytes({ dtype, shape })),
});

test('what the reference wrote is written again to the byte', async () => {
  const stored = join(PICKLES, 'expect');
  const names = readdirSync(stored).filter((name) => name.endsWith('.safetensors'));
  expect(names.length).toBeGreaterThan(20);
  for (const name of names) {
    const { tensors } = await readSafetensors(join(stored, name));
    const path = join(folder, name);
    const shuffled = tensors.map(source).reverse();
    const length = await writeSafetensors(path, shuffled, { metadata: null });
    expect(readFileSync(path), name).toEqual(readFileSync(join(stored, name)));
    expect(readFileSync(path).length).toBe(length);
  }
});

test('the order is that of alignment, then of the names in UTF-8', async () => {
  const path = join(folder, 'x');
  const types = STORED_DTYPES.filter((dtype) => dtype !== 'C128');
  const given = [
    ...types.map((dtype) => zeros(`t${dtype}`, dtype, [1])),
    zeros('\uffff', 'F32', []),
  ];
  await writeSafetensors(path, [...given, zeros('\u{1f999}', 'F32', [])]);
  const { tensors } = await readSafetensors(path);
  expect(tensors.map(({ name }) => name)).toEqual(
    'tU64 tI64 tF64 tC64 tF32 \uffff \u{1f999} tU32 tI32 tBF16 tF16 tU16 tI16 tF8_E5M2FNUZ tF8_E4M3FNUZ tF8_E8M0 tF8_E4M3 tF8_E5M2 tI8 tU8 tBOOL'.split(
      ' ',
    ),
  );
  for (const { offset, bytes } of tensors) if (bytes > 0) expect(offset % bytes).toBe(0);
});

test('any set of tensors comes back as it was', async () => {
  const name = fc.string({ unit: 'grapheme' }).filter((text) => text !== '__metadata__');
  const tensor = fc.record({
    name,
    dtype: fc.constantFrom<StoredDType>('F32', 'BF16', 'U8', 'I64'),
    shape: fc.array(fc.nat(3), { maxLength: 3 }),
  });
  const tensorsOf = fc.uniqueArray(tensor, { selector: (each) => each.name, maxLength: 6 });
  await fc.assert(
    fc.asyncProperty(
      tensorsOf,
      fc.dictionary(fc.string(), fc.string()),
      async (tensors, metadata) => {
        const given = tensors.map((each, index) => ({
          ...each,
          data: new Uint8Array(tensorBytes(each)).fill(index + 1),
        }));
        const bytes = encodeSafetensors(given, { metadata });
        const path = join(folder, 'x');
        await writeSafetensors(
          path,
          given.map((each) => ({ ...each, bytes: () => each.data })),
          { metadata },
        );
        expect(readFileSync(path)).toEqual(Buffer.from(bytes));
        const read = await readSafetensors(path);
        expect(Object.fromEntries(read.metadata)).toEqual({ ...metadata });
        for (const { data, ...each } of given) {
          const found = read.tensors.find((candidate) => candidate.name === each.name)!;
          expect(found).toMatchObject(each);
          expect(new Uint8Array(await readDense(found, Infinity))).toEqual(data);
        }
        rmSync(path);
      },
    ),
    { numRuns: cases(20) },
  );
});

describe('refuses', () => {
  const write = (...tensors: TensorSource[]) => writeSafetensors(join(folder, 'x'), tensors);

  test('names that occur twice or cannot be names, and a type that safetensors lacks', async () => {
    const code = 'E_TENSOR_NAMES';
    await expect(write(zeros('a', 'F32', []), zeros('a', 'I8', []))).rejects.toMatchObject({
      code,
    });
    await expect(write(zeros('__metadata__', 'F32', []))).rejects.toMatchObject({ code });
    await expect(write(zeros('\ud800', 'F32', []))).rejects.toMatchObject({ code });
    await expect(write(zeros('a', 'C128', []))).rejects.toMatchObject({ code });
  });

  test('bytes that do not fit the shape', async () => {
    const short = { ...zeros('a', 'F32', [2]), bytes: () => new Uint8Array(4) };
    await expect(write(short)).rejects.toMatchObject({ code: 'E_TENSOR_BYTES' });
    // What is half there would be in the way of the next attempt.
    expect(existsSync(join(folder, 'x'))).toBe(false);
  });

  test('to write over a file', async () => {
    await write(zeros('a', 'F32', []));
    const before = readFileSync(join(folder, 'x'));
    await expect(write(zeros('b', 'F32', []))).rejects.toMatchObject({ code: 'E_EXISTS' });
    expect(readFileSync(join(folder, 'x')).equals(before)).toBe(true);
  });
});

test('bytes may come in pieces, and stop when told to', async () => {
  const stop = new AbortController();
  const inPieces: TensorSource = {
    ...zeros('a', 'U8', [4]),
    async *bytes() {
      yield await Promise.resolve(new Uint8Array([1, 2]));
      stop.abort();
      yield new Uint8Array([3, 4]);
    },
  };
  await writeSafetensors(join(folder, 'x'), [inPieces]);
  expect([...readFileSync(join(folder, 'x')).subarray(-4)]).toEqual([1, 2, 3, 4]);
  const stopped = writeSafetensors(join(folder, 'y'), [inPieces], { signal: stop.signal });
  await expect(stopped).rejects.toThrow(/abort/);
});

describe('shards', () => {
  const layers = Array.from({ length: 12 }, (_, index) => zeros(`layers.${index}.w`, 'F32', [25]));

  test('a small model is one file without an index', async () => {
    expect(await writeShards(folder, layers)).toEqual(['model.safetensors']);
    expect(readdirSync(folder)).toEqual(['model.safetensors']);
  });

  test('are filled in natural order, whatever the order of the tensors', async () => {
    const files = await writeShards(folder, layers.toReversed(), { shardBytes: 500 });
    expect(files).toEqual([
      'model-00001-of-00003.safetensors',
      'model-00002-of-00003.safetensors',
      'model-00003-of-00003.safetensors',
      'model.safetensors.index.json',
    ]);
    const map = await readWeightIndex(join(folder, files[3]!));
    expect(map.get('layers.2.w')).toBe(files[0]);
    expect(map.get('layers.11.w')).toBe(files[2]);
    const index = JSON.parse(readFileSync(join(folder, files[3]!), 'utf8')) as object;
    expect(index).toMatchObject({ metadata: { total_size: 1200, total_parameters: 300 } });
    for (const file of files.slice(0, 3)) {
      for (const { name } of (await readSafetensors(join(folder, file))).tensors) {
        expect(map.get(name)).toBe(file);
      }
    }
  });

  test('a tensor larger than a shard gets one of its own', () => {
    const large = [zeros('a', 'F32', [1]), zeros('b', 'F32', [999]), zeros('c', 'F32', [1])];
    expect(splitIntoShards(large, 100).map((shard) => shard.map(({ name }) => name))).toEqual([
      ['a'],
      ['b'],
      ['c'],
    ]);
  });

  test('a name in two shards is refused', async () => {
    const twice = [zeros('a', 'F32', [99]), zeros('a', 'F32', [99])];
    await expect(writeShards(folder, twice, { shardBytes: 10 })).rejects.toMatchObject({
      code: 'E_TENSOR_NAMES',
    });
  });
});
