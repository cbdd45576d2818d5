import fc from 'fast-check';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { encodeSafetensors } from './safetensors/write.js';
import { openWeights } from './weights.js';
import { weightsDigest } from './weights-digest.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-digest-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const digestOf = async (path: string): Promise<string> =>
  weightsDigest((await openWeights(path)).tensors);

function write(name: string, shapes: Readonly<Record<string, number>>, fill = 1): string {
  const tensors = Object.entries(shapes).map(([each, count]) => ({
    name: each,
    dtype: 'U8' as const,
    shape: [count],
    data: new Uint8Array(count).fill(fill),
  }));
  const path = join(folder, name);
  writeFileSync(path, encodeSafetensors(tensors));
  return path;
}

test('any bit of small weights counts, and no name of a file', async () => {
  const path = write('a.safetensors', { one: 100, two: 50 });
  const before = await digestOf(path);
  expect(await digestOf(write('b.safetensors', { two: 50, one: 100 }))).toBe(before);
  expect(await digestOf(write('c.safetensors', { one: 100, tvo: 50 }))).not.toBe(before);
  const bytes = readFileSync(path);
  const begin = bytes.length - 150;
  await fc.assert(
    fc.asyncProperty(fc.nat(149), fc.nat(7), async (at, bit) => {
      const damaged = Buffer.from(bytes);
      damaged[begin + at]! ^= 1 << bit;
      writeFileSync(path, damaged);
      expect(await digestOf(path)).not.toBe(before);
    }),
    { numRuns: 20 },
  );
});

test('of large weights each tensor counts with its beginning, its end and what lies between', async () => {
  const path = write('large.safetensors', { large: 65 * 2 ** 20, small: 10 });
  const before = await digestOf(path);
  const bytes = readFileSync(path);
  const begin = bytes.length - (65 * 2 ** 20 + 10);
  for (const at of [0, 8 * 2 ** 20 + 5, 64 * 2 ** 20, 65 * 2 ** 20 - 1, 65 * 2 ** 20 + 9]) {
    bytes[begin + at]! ^= 1;
    writeFileSync(path, bytes);
    expect(await digestOf(path)).not.toBe(before);
    bytes[begin + at]! ^= 1;
  }
  writeFileSync(path, bytes);
  expect(await digestOf(path)).toBe(before);
});
