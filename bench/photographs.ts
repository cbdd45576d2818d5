/** Photographs drawn for measuring: pictures of the tests at the sizes of datasets, with the grain of a camera. */

import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import sharp from 'sharp';

import { packageRoot } from '../src/base/native-path.js';

const SOURCES = ['jpeg_420.jpg', 'jpeg_444.jpg', 'png_rgb8.png', 'jpeg_progressive.jpg'];

/** Sizes as in COCO, about 0.3 megapixels. */
export const COCO_SIZES: readonly Size[] = [
  [640, 480],
  [640, 427],
  [480, 640],
  [500, 375],
];
/** 1.2 to 1.9 megapixels. */
export const LARGE_SIZES: readonly Size[] = [
  [1280, 960],
  [1600, 1200],
  [1200, 1600],
  [1536, 1024],
];

type Size = readonly [width: number, height: number];

export interface Photographs {
  /** @default COCO_SIZES */
  sizes?: readonly Size[];
  /** @default 'jpg', of quality 92 */
  format?: 'jpg' | 'png';
  /** @default 24 */
  count?: number;
}

/** Writes the photographs, the same every time; returns their paths. */
export async function drawPhotographs(
  folder: string,
  { sizes = COCO_SIZES, format = 'jpg', count = 24 }: Photographs = {},
): Promise<string[]> {
  await mkdir(folder, { recursive: true });
  const files: string[] = [];
  let state = 1;
  const uniform = () => (state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0) / 2 ** 32;
  for (let i = 0; i < count; i++) {
    const source = join(packageRoot(), 'test/fixtures/pixels/files', SOURCES[i % 4]!);
    const [width, height] = sizes[(i + Math.floor(i / 4)) % sizes.length]!;
    const pixels = await sharp(await readFile(source))
      .resize(width, height, { fit: 'cover' })
      .raw()
      .toBuffer();
    for (let at = 0; at < pixels.length; at += 3) {
      const grain = 16 * (uniform() + uniform() + uniform() - 1.5);
      for (let c = at; c < at + 3; c++) pixels[c] = Math.min(Math.max(pixels[c]! + grain, 0), 255);
    }
    const image = sharp(pixels, { raw: { width, height, channels: 3 } });
    const path = join(folder, `${i}.${format}`);
    await writeFile(
      path,
      await (format === 'jpg' ? image.jpeg({ quality: 92 }) : image.png()).toBuffer(),
    );
    files.push(path);
  }
  return files;
}
