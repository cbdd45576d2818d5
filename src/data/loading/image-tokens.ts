/** How many tokens the images of a record take, without decoding them. */
import { type ImageFacts, imageTokensOf } from '../../models/sample.js';
import { type PictureSize, tilesAmong } from '../../models/tiles.js';
import { imageSize } from '../image/header.js';
import { ImageError, type Reading } from '../image/rgb-image.js';
import type { ImageSource } from '../records/record.js';
import { imageBytes } from './load-image.js';

export interface ImageTokensOptions {
  /** What the model takes. */
  image: Pick<ImageFacts, 'tokens' | 'tiles'>;
  reading: Reading;
  /** What relative paths start from. */
  folder: string;
}

/**
 * Tokens of each image. Where the model takes tiles they follow from the size of an image, which the head of its file says; one that
 * cannot be read counts as the most that there can be, and is told when it is decoded.
 */
export async function imageTokens(
  sources: readonly ImageSource[],
  { image, reading, folder }: ImageTokensOptions,
): Promise<number[]> {
  const count = sources.length;
  const each: number[] = [];
  for (const source of sources) {
    const size = sizeCounts(image, count) ? await sizeOf(source) : undefined;
    each.push(imageTokensOf(size, count, image));
  }
  return each;

  async function sizeOf(source: ImageSource): Promise<PictureSize | undefined> {
    try {
      const { bytes, name } = await imageBytes(source, folder);
      return imageSize(bytes, { name, reading });
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      return undefined;
    }
  }
}

function sizeCounts({ tiles }: ImageTokensOptions['image'], pictures: number): boolean {
  return tiles !== undefined && tilesAmong(tiles, pictures).pinpoints.length > 0;
}
