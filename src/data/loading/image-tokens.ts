/** How many tokens the images of a record take, without decoding them. */
import { type ImageFacts } from '../../models/sample.js';
import { tiledTokens } from '../../models/tiles.js';
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
  { image: { tokens, tiles }, reading, folder }: ImageTokensOptions,
): Promise<number[]> {
  const each: number[] = [];
  for (const source of sources) {
    if (tiles === undefined) {
      each.push(tokens);
      continue;
    }
    try {
      const { bytes, name } = await imageBytes(source, folder);
      each.push(tiledTokens(imageSize(bytes, { name, reading }), tiles));
    } catch (error) {
      if (!(error instanceof ImageError)) throw error;
      each.push(tokens);
    }
  }
  return each;
}
