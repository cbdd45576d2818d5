import { expect, test } from 'vitest';

import type { FitMode } from '../../data/image/fit.js';
import { describePictures, trainingMode } from './picture-mode.js';

test.each<['clip' | 'siglip', own: FitMode, trained: FitMode | undefined, FitMode]>([
  ['clip', 'crop', undefined, 'pad'],
  ['clip', 'squeeze', undefined, 'pad'],
  ['clip', 'pad', 'crop', 'pad'],
  ['siglip', 'squeeze', undefined, 'squeeze'],
  ['siglip', 'pad', undefined, 'pad'],
  ['siglip', 'crop', undefined, 'crop'],
  ['siglip', 'squeeze', 'pad', 'pad'],
])(
  'over %s whose file says %s, of a checkpoint trained with %s: %s',
  (family, own, trained, mode) => {
    expect(trainingMode(own, { tower: { family, imageSize: 8 }, trained })).toBe(mode);
  },
);

test('nothing is told of tiles, which are cut as the model says, or without pictures', () => {
  const tiles = { pinpoints: [{ height: 8, width: 16 }], size: 8, patches: 2 };
  expect(describePictures({ size: 8, mode: 'pad', own: 'pad', tiles })).toEqual([]);
  expect(describePictures(null)).toEqual([]);
});
