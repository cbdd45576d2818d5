import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { expect, test } from 'vitest';

import { packageRoot } from '../../../base/native-path.js';
import { fromBytes, randn, scope, tensor } from '../../../torch/index.js';
import { blockPieces, type BlockType, dequantise } from './blocks.js';
import { interleaveHalves, separateHalves } from './tensor-plan.js';

type Rows = readonly (readonly number[])[];

const stored = JSON.parse(
  readFileSync(join(packageRoot(), 'test', 'fixtures', 'gguf', 'blocks.json'), 'utf8'),
) as { values: Rows } & Record<BlockType, { bytes: string; values: Rows }>;

const floats = (bits: Rows): Float32Array => new Float32Array(Uint32Array.from(bits.flat()).buffer);

test.each(['q8_0', 'q4_0'] as const)('%s has the bytes of ggml, and their numbers', (type) => {
  scope(() => {
    const values = tensor(floats(stored.values)).view([-1, 32]);
    const bytes = Buffer.concat([...blockPieces(values, type)]);
    expect(bytes.toString('hex')).toBe(stored[type].bytes);
    const blocks = fromBytes(bytes, [values.size(0), bytes.length / values.size(0)], 'uint8');
    expect(dequantise(blocks, type).flatten().toTypedArray()).toEqual(floats(stored[type].values));
  });
});

test('halves of heads are interleaved, and separated again', () => {
  scope(() => {
    const rows = tensor(Float32Array.from({ length: 16 }, (_, i) => i));
    const wanted = [0, 4, 1, 5, 2, 6, 3, 7, 8, 12, 9, 13, 10, 14, 11, 15];
    expect(interleaveHalves(rows, 2).toArray()).toEqual(wanted);
    const matrix = randn([12, 3]);
    expect(separateHalves(interleaveHalves(matrix, 3), 3).toArray()).toEqual(matrix.toArray());
  });
});
