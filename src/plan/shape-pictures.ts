/** Pictures of records of given shapes, without files. */
import {
  imageFeatures,
  type ImageFacts,
  type ImagePixels,
  type LlavaConfig,
  type PictureSize,
  tiledTokens,
  tilesAmong,
  type TileFacts,
  viewCount,
} from '../models/index.js';
import type { RecordShape } from '../train/index.js';
import { noise } from './noise.js';

/** The pictures of a record, of noise, and the tokens that they take together. */
export function shapePictures(
  { tokens, images, pictures }: RecordShape,
  image: ImageFacts | null,
): { images: ImagePixels[]; tokens: number } {
  if (image === null || images === 0) return { images: [], tokens: 0 };
  const { size, tiles } = image;
  const bytes = 3 * size ** 2;
  if (tiles === undefined) {
    const picture = noise(bytes);
    return { images: Array<Uint8Array>(images).fill(picture), tokens: images * image.tokens };
  }
  const facts = tilesAmong(tiles, images);
  const sizes = pictures ?? likelyPictures(facts, { tokens, images });
  return {
    images: sizes.map(({ height, width }) => ({
      ...{ height, width },
      views: noise(viewCount({ height, width }, facts) * bytes),
    })),
    tokens: sizes.reduce((sum, each) => sum + tiledTokens(each, facts), 0),
  };
}

/** Of pictures whose sizes are not known: each as large as there is room for all of them. */
function likelyPictures(
  tiles: TileFacts,
  { tokens, images }: Pick<RecordShape, 'tokens' | 'images'>,
): PictureSize[] {
  const picture = largestPicture(tiles, Math.floor((tokens - 1) / images));
  return picture === undefined ? [] : Array<PictureSize>(images).fill(picture);
}

/**
 * Tokens of the largest picture for which there is room; of tiles that have room for none, infinitely many.
 *
 * @param pictures how many its record has
 */
export function pictureTokens(config: LlavaConfig, room: number, pictures = 1): number {
  if (config.tiles === null) return imageFeatures(config);
  const tiles = tilesAmong(config.tiles, pictures);
  const picture = largestPicture(tiles, room);
  return picture === undefined ? Infinity : tiledTokens(picture, tiles);
}

/** The picture of most views, but of no more tokens than there is room for; undefined where there is room for none. */
export function largestPicture(tiles: TileFacts, room: number): PictureSize | undefined {
  const { pinpoints, size } = tiles;
  const all = pinpoints.length === 0 ? [{ height: size, width: size }] : pinpoints;
  const fit = all.filter((each) => tiledTokens(each, tiles) <= room);
  // Views first: a LLaVA-OneVision gives many tiles fewer tokens than some.
  return fit.sort(
    (a, b) =>
      viewCount(b, tiles) - viewCount(a, tiles) || tiledTokens(b, tiles) - tiledTokens(a, tiles),
  )[0];
}
