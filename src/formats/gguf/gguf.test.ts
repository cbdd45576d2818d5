import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { afterAll, expect, test } from 'vitest';

import { readGguf } from './read.js';
import { GGML_TYPES, gguf, type GgufMetadata, type GgufValue } from './types.js';
import { type GgufSource, layOutGguf, writeGguf } from './write.js';

const root = mkdtempSync(join(tmpdir(), 'patina-gguf-'));
afterAll(() => rmSync(root, { recursive: true }));
let number = 0;
const file = (): string => join(root, `${number++}.gguf`);

const text = fc.string({ unit: 'grapheme' });
const value: fc.Arbitrary<GgufValue> = fc.oneof(
  fc.nat(0xffffffff).map(gguf.uint32),
  fc.float().map(gguf.float32),
  fc.boolean().map(gguf.bool),
  text.map(gguf.string),
  fc.array(text).map(gguf.strings),
  fc.array(fc.integer()).map(gguf.int32s),
  fc.array(fc.float()).map(gguf.float32s),
  fc.constantFrom(
    { type: 'uint8', value: 255 } as const,
    { type: 'int8', value: -128 } as const,
    { type: 'uint16', value: 65535 } as const,
    { type: 'int16', value: -32768 } as const,
    { type: 'uint64', value: 2 ** 53 - 1 } as const,
    { type: 'int64', value: 1 - 2 ** 53 } as const,
    { type: 'float64', value: 0.1 } as const,
  ),
);
const metadata: fc.Arbitrary<GgufMetadata> = fc
  .uniqueArray(fc.tuple(text, value), { selector: ([key]) => key })
  .map((entries) => new Map(entries));

const filled = (name: string, type: GgufSource['type'], shape: readonly number[]): GgufSource => {
  const { block, bytes } = GGML_TYPES[type];
  const length = (shape.reduce((a, b) => a * b, 1) / block) * bytes;
  return { name, type, shape, bytes: () => [Uint8Array.from({ length }, (_, i) => i % 251)] };
};

const TENSORS = [
  filled('a', 'f32', [3]),
  filled('b.weight', 'q8_0', [2, 64]),
  filled('c', 'bf16', [2, 3, 5, 7]),
  filled('d', 'q4_0', [1, 32]),
];

test('what is written is read', async () => {
  await fc.assert(
    fc.asyncProperty(metadata, async (given) => {
      const path = file();
      const bytes = await writeGguf(path, given, TENSORS);
      const content = await readFile(path);
      expect(content.length).toBe(bytes);
      const read = await readGguf(path);
      expect([...read.metadata]).toEqual([...given]);
      expect(read.tensors.map(({ name }) => name)).toEqual(TENSORS.map(({ name }) => name));
      for (const [i, { offset, bytes: length, type, shape }] of read.tensors.entries()) {
        const wanted = TENSORS[i]!;
        expect([type, shape, offset % 32]).toEqual([wanted.type, wanted.shape, 0]);
        const [data] = [...(wanted.bytes() as Iterable<Uint8Array>)];
        expect(content.subarray(offset, offset + length).equals(data!)).toBe(true);
      }
    }),
    { numRuns: 30 },
  );
});

const KEYS: GgufMetadata = new Map([
  ['general.architecture', gguf.string('llama')],
  ['tokens', gguf.strings(['a', 'bc'])],
]);

test('a file that ends anywhere in its header, or before its last tensor does, is refused', async () => {
  const path = file();
  await writeGguf(path, KEYS, TENSORS);
  const whole = await readFile(path);
  const end = (await readGguf(path)).tensors.at(-1)!;
  for (let length = 0; length < end.offset + end.bytes; length += length < 400 ? 1 : 97) {
    writeFileSync(path, whole.subarray(0, length));
    await expect(readGguf(path), String(length)).rejects.toMatchObject({ code: 'E_GGUF' });
  }
});

test('headers that lie are refused, before memory is taken', async () => {
  const header = layOutGguf('x', KEYS, [filled('a', 'f32', [3])]).header;
  const changed = async (at: number, bytes: readonly number[]): Promise<unknown> => {
    const path = file();
    const content = Buffer.concat([header, new Uint8Array(64)]);
    content.set(bytes, at);
    writeFileSync(path, content);
    return readGguf(path).catch((error: unknown) => error);
  };
  const E_GGUF = { code: 'E_GGUF' };
  const many = [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f, 0];
  expect(await changed(0, [0x67])).toMatchObject(E_GGUF);
  expect(await changed(4, [2])).toMatchObject(E_GGUF);
  expect(await changed(8, many)).toMatchObject(E_GGUF);
  expect(await changed(16, many)).toMatchObject(E_GGUF);
  expect(await changed(24, many)).toMatchObject(E_GGUF);
  expect(await changed(16, [0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff])).toMatchObject(E_GGUF);
  const random = fc.tuple(fc.nat(header.length - 1), fc.nat(255));
  await fc.assert(
    fc.asyncProperty(random, async ([at, byte]) => {
      const result = await changed(at, [byte]);
      if (result instanceof Error) expect(result).toMatchObject(E_GGUF);
    }),
    { numRuns: 200 },
  );
});

test('what no file can hold is refused, and leaves none', async () => {
  const cases: [GgufSource[], string][] = [
    [[filled('a', 'f32', [3]), filled('a', 'f32', [3])], 'E_TENSOR_NAMES'],
    [[filled('a'.repeat(64), 'f32', [3])], 'E_TENSOR_NAMES'],
    [[filled('a', 'q8_0', [2, 48])], 'E_TENSOR_SHAPE'],
    [[filled('a', 'f32', [])], 'E_TENSOR_SHAPE'],
    [[filled('a', 'f32', [1, 1, 1, 1, 1])], 'E_TENSOR_SHAPE'],
    [[{ ...filled('a', 'f32', [3]), bytes: () => [new Uint8Array(11)] }], 'E_TENSOR_BYTES'],
  ];
  const before = readdirSync(root).length;
  for (const [tensors, code] of cases) {
    await expect(writeGguf(file(), KEYS, tensors)).rejects.toMatchObject({ code });
  }
  expect(readdirSync(root)).toHaveLength(before);
});
