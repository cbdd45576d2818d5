import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { describe, expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { readLlavaConfig } from '../../models/configs/llava-config.js';
import { readTensorFile } from '../../models/load/tensor-file.js';
import { bestResolution, mostOf, tiledTokens, viewCount } from '../../models/tiles.js';
import type { TiledPixels, TileFacts } from '../../models/tiles.js';
import { CLIP_MEAN, CLIP_STD, meanColour, normaliseTable } from './normalise.js';
import { readImage } from './read-image.js';
import type { RgbImage } from './rgb-image.js';
import { fitPicture, type PictureFit } from './tile.js';

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
  const file = join(FIXTURES, variant, 'hf', 'config.json');
  return readLlavaConfig({ file, json: json(variant, 'hf', 'config.json') }).tiles!;
}

function pictureOf(number: number): Promise<RgbImage> {
  return readImage(join(FIXTURES, 'next-llama3', 'pictures', `size-${number}.png`));
}

const HALF = [0.5, 0.5, 0.5] as const;

describe.each([
  ['next-llama3', CLIP_MEAN, CLIP_STD],
  ['next-mistral-tied-small', CLIP_MEAN, CLIP_STD],
  ['next-siglip-small', HALF, HALF],
  ['onevision-qwen2', HALF, HALF],
])('%s', (variant, mean, std) => {
  const told = json(variant, 'sizes.json') as Told[];
  const facts = factsOf(variant);
  const fit: PictureFit = {
    size: facts.size,
    mode: 'crop',
    background: meanColour(mean),
    tiles: facts,
  };

  test('resolution, views and tokens are those of the reference for every shape', () => {
    for (const { size, tokens, views, pinpoint } of told) {
      const picture = { height: size[0], width: size[1] };
      const best = bestResolution(picture, facts);
      expect([best.height, best.width], String(size)).toEqual(pinpoint);
      expect(viewCount(picture, facts), String(size)).toBe(views);
      expect(tiledTokens(picture, facts), String(size)).toBe(tokens);
      expect(mostOf(facts).tokens).toBeGreaterThanOrEqual(tokens);
      expect(mostOf(facts).views).toBeGreaterThanOrEqual(views);
    }
  });

  test('the bytes of every view are those of the reference, and values follow by the table', async () => {
    const made = await readTensorFile(join(FIXTURES, variant, 'processor.safetensors'));
    for (const [i, { size }] of told.entries()) {
      const image = await pictureOf(i);
      const { views, height, width } = fitPicture(image, fit) as TiledPixels;
      expect([height, width]).toEqual(size);
      expect(Buffer.from(views), `picture ${i}`).toEqual(bytesOf(made, String(i)));
      // Only a LLaVA-OneVision sees it otherwise beside another one.
      const beside = made.has(`beside.${i}`) ? `beside.${i}` : String(i);
      const shared = fitPicture(image, fit, 2) as TiledPixels;
      expect(Buffer.from(shared.views), `picture ${i} beside another`).toEqual(
        bytesOf(made, beside),
      );
    }
    const values = made.get('values')?.toTypedArray() as Float32Array | undefined;
    const table = normaliseTable(mean, std);
    const bytes = (made.get('5')?.toTypedArray() ?? []) as Uint8Array;
    for (const [at, byte] of bytes.entries()) {
      expect(values![at]).toBe(table[256 * (Math.floor(at / facts.size ** 2) % 3) + byte]);
    }
    for (const tensor of made.values()) tensor.dispose();
  });
});

/** Bytes (V, S, S, 3) of stored ones (V, 3, S, S). */
function bytesOf(made: Awaited<ReturnType<typeof readTensorFile>>, name: string): Buffer {
  using expected = made.get(name)!.permute([0, 2, 3, 1]).contiguous();
  return Buffer.from(expected.toTypedArray() as Uint8Array);
}
