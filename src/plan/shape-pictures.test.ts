import { expect, test } from 'vitest';

import { type ImageFacts, imageTokensOf, type TiledPixels } from '../models/index.js';
import { largestPicture, shapePictures } from './shape-pictures.js';

const tiles = {
  pinpoints: [
    { height: 8, width: 16 },
    { height: 16, width: 16 },
  ],
  size: 8,
  patches: 2,
};
const image: ImageFacts = { tokenId: 0, tokens: 24, size: 8, tiles };

test('a picture of a known size takes its tokens, and its views', () => {
  const pictures = [{ height: 8, width: 16 }];
  const shape = { tokens: 40, supervised: 4, images: 1, pictures };
  const made = shapePictures(shape, image);
  expect(made.tokens).toBe(4 + 2 * 5);
  expect(made.tokens).toBe(imageTokensOf(made.images[0], 1, image));
  expect((made.images[0] as TiledPixels).views.length).toBe(3 * 3 * 8 * 8);
});

test('one of an unknown size is as large as there is room for', () => {
  const tokensOf = (tokens: number, images: number): number =>
    shapePictures({ tokens, supervised: 1, images }, image).tokens;
  expect(tokensOf(25, 1)).toBe(4 + 4 * 5);
  expect(tokensOf(24, 1)).toBe(4 + 2 * 5);
  expect(tokensOf(49, 2)).toBe(2 * (4 + 4 * 5));
  expect(tokensOf(14, 1)).toBe(0);
  expect(largestPicture(tiles, 13)).toBeUndefined();
});

test('of a LLaVA-OneVision many tiles weigh more than many tokens, and several pictures are squares', () => {
  const limited = {
    ...{ size: 8, patches: 10, max: 2 },
    pinpoints: [
      { height: 8, width: 16 },
      { height: 24, width: 24 },
    ],
  };
  const facts: ImageFacts = { tokenId: 0, tokens: 400, size: 8, tiles: limited };
  const shape = { tokens: 400, supervised: 1 };
  // 14 by 14 of 30 by 30 features are fewer than 10 by 20.
  const alone = shapePictures({ ...shape, images: 1 }, facts);
  expect(alone.tokens).toBe(100 + 14 * 15);
  expect((alone.images[0] as TiledPixels).views.length).toBe(10 * 3 * 8 * 8);
  expect(largestPicture(limited, 100 + 10 * 21)).toEqual({ height: 24, width: 24 });
  const both = shapePictures({ ...shape, images: 2 }, facts);
  expect(both.tokens).toBe(2 * 101);
  expect((both.images[0] as TiledPixels).views.length).toBe(3 * 8 * 8);
  expect(shapePictures({ ...shape, tokens: 200, images: 2 }, facts).images).toEqual([]);
});

test('where pictures are squares each takes the same; without a tower there are none', () => {
  const shape = { tokens: 40, supervised: 4, images: 2 };
  const made = shapePictures(shape, { tokenId: 0, tokens: 4, size: 8 });
  expect(made.tokens).toBe(8);
  expect(made.images.map((each) => (each as Uint8Array).length)).toEqual([192, 192]);
  expect(shapePictures(shape, null)).toEqual({ images: [], tokens: 0 });
});
