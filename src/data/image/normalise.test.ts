import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

import { CLIP_BACKGROUND, meanColour, normaliseTable } from './normalise.js';

it('gives the pixel_values of transformers to the bit', () => {
  const url = new URL('../../../test/fixtures/pixels/normalise.npy', import.meta.url);
  const npy = readFileSync(url);
  const table = normaliseTable();
  expect(Buffer.from(table.buffer).equals(npy.subarray(npy.length - table.byteLength))).toBe(true);
});

it('pads with the mean colour, truncated', () => {
  expect(CLIP_BACKGROUND).toEqual([122, 116, 104]);
  expect(meanColour([0.5, 0.999, 1])).toEqual([127, 254, 255]);
});

it('takes other means, deviations and scales', () => {
  const table = normaliseTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5], 1 / 128);
  expect([table[0], table[256 + 64], table[512 + 128]]).toEqual([-1, 0, 1]);
});
