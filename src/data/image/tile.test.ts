import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { readTensorFile } from '../../models/load/tensor-file.js';
import {
  arrangedFeatures,
  bestResolution,
  mostOf,
  NEWLINE,
  tiledTokens,
  viewCount,
} from '../../models/tiles.js';
import type { TiledPixels, TileFacts } from '../../models/tiles.js';
import { CLIP_BACKGROUND, normaliseTable } from './normalise.js';
import { readImage } from './read-image.js';
import { fitPicture } from './tile.js';

const FIXTURES = join(packageRoot(), 'test', 'fixtures', 'llava');

interface Told {
  readonly size: [height: number, width: number];
  readonly tokens: number;
  readonly views: number;
  readonly pinpoint: [height: number, width: number];
}

function json(...path: string[]): unknown {
  return JSON.parse(readFileSync(join(FIXTURES, ...path), 'utf8'));
}

function factsOf(variant: string): TileFacts {
  const config = json(variant, 'hf', 'config.json') as {
    image_grid_pinpoints: [number, number][];
    vision_config: { image_size: number; patch_size: number };
  };
  const { image_size: size, patch_size: patch } = config.vision_config;
  const pinpoints = config.image_grid_pinpoints.map(([height, width]) => ({ height, width }));
  return { pinpoints, size, patches: size / patch };
}

describe.each(['next-llama3', 'next-mistral-tied-small'])('%s', (variant) => {
  const told = json(variant, 'sizes.json') as Told[];
  const facts = factsOf(variant);

  test('resolution, views and tokens are those of the reference for every shape', () => {
    for (const { size, tokens, views, pinpoint } of told) {
      const picture = { height: size[0], width: size[1] };
      const best = bestResolution(picture, facts);
      expect([best.height, best.width], String(size)).toEqual(pinpoint);
      expect(viewCount(picture, facts), String(size)).toBe(views);
      expect(tiledTokens(picture, facts), String(size)).toBe(tokens);
      const arranged = arrangedFeatures(picture, facts);
      expect(arranged.length).toBe(tokens);
      const features = arranged.filter((feature) => feature !== NEWLINE);
      expect(new Set(features).size).toBe(features.length);
      expect(Math.max(...features)).toBeLessThan(views * facts.patches ** 2);
      expect(mostOf(facts).tokens).toBeGreaterThanOrEqual(tokens);
      expect(mostOf(facts).views).toBeGreaterThanOrEqual(views);
    }
  });

  test('the bytes of every view are those of the reference', async () => {
    const made = await readTensorFile(join(FIXTURES, variant, 'processor.safetensors'));
    for (const [i] of told.entries()) {
      const image = await readImage(join(FIXTURES, 'next-llama3', 'pictures', `size-${i}.png`));
      const fit = { size: facts.size, mode: 'pad', background: CLIP_BACKGROUND } as const;
      const { views, height, width } = fitPicture(image, { ...fit, tiles: facts }) as TiledPixels;
      expect([height, width]).toEqual(told[i]!.size);
      const expected = made.get(String(i))!.permute([0, 2, 3, 1]).contiguous();
      expect(Buffer.from(views), `picture ${i}`).toEqual(
        Buffer.from(expected.toTypedArray() as Uint8Array),
      );
      expected.dispose();
    }
    // Its values follow from the bytes by the table.
    const { shape } = made.get('values')!;
    const [views, , side] = shape as [number, number, number];
    const values = made.get('values')!.toTypedArray() as Float32Array;
    const bytes = made.get('5')!.toTypedArray() as Uint8Array;
    const table = normaliseTable();
    expect(bytes.length).toBe(3 * views * side * side);
    for (const [at, byte] of bytes.entries()) {
      expect(values[at]).toBe(table[256 * (Math.floor(at / side ** 2) % 3) + byte]);
    }
    for (const tensor of made.values()) tensor.dispose();
  });
});
