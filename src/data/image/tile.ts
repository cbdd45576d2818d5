/**
 * A picture in tiles, byte for byte as transformers' `LlavaNextImageProcessorPil` and `LlavaOnevisionImageProcessorPil` cut it: the whole
 * picture squeezed into the tower's square, then the tiles of the resolution that suits it best, on which it lies centred, padded with
 * black. One that is not cut is padded to a square in the colour of the mean.
 */
import {
  bestResolution,
  type TiledPixels,
  type TileFacts,
  tilesAmong,
} from '../../models/tiles.js';
import { fitImage, type FitOptions, resizeImage } from './fit.js';
import type { RgbImage } from './rgb-image.js';

/** How a model takes pictures: as one square, or in tiles. */
export interface PictureFit extends FitOptions {
  /** Where they are given, `mode` plays no part, and `background` only where a picture is not cut. @default one square */
  tiles?: TileFacts | undefined;
}

/** Bytes (S, S, 3), or those of all views of a picture in tiles. */
export type PictureBytes = Uint8Array | (TiledPixels & { readonly views: Uint8Array });

/**
 * A picture as a model takes it.
 *
 * @param pictures how many its sample has
 * @throws UsageError as `fitImage`
 */
export function fitPicture(
  image: RgbImage,
  { tiles, ...fit }: PictureFit,
  pictures = 1,
): PictureBytes {
  if (tiles === undefined) return fitImage(image, fit).data;
  const facts = tilesAmong(tiles, pictures);
  const { width, height } = image;
  const views =
    facts.pinpoints.length === 0
      ? fitImage(image, { ...fit, mode: 'pad' }).data
      : tileImage(image, facts);
  return { width, height, views };
}

/** Bytes (V, S, S, 3): the whole picture, then its tiles row by row. */
function tileImage(image: RgbImage, facts: TileFacts): Uint8Array {
  const { size } = facts;
  const canvas = padded(image, bestResolution(image, facts));
  const [rows, columns] = [canvas.height / size, canvas.width / size];
  const bytes = 3 * size * size;
  const views = new Uint8Array((1 + rows * columns) * bytes);
  views.set(resizeImage(image, { width: size, height: size }).data);
  const line = 3 * size;
  for (let y = 0; y < canvas.height; y++) {
    for (let column = 0; column < columns; column++) {
      const tile = 1 + Math.floor(y / size) * columns + column;
      const from = (y * columns + column) * line;
      views.set(canvas.data.subarray(from, from + line), tile * bytes + (y % size) * line);
    }
  }
  return views;
}

/** The picture as large as it fits, in the middle of black. */
function padded(image: RgbImage, { width, height }: Pick<RgbImage, 'width' | 'height'>): RgbImage {
  const scales = { x: width / image.width, y: height / image.height };
  const isWide = scales.x < scales.y;
  const fitted = {
    width: isWide ? width : Math.min(Math.ceil(image.width * scales.y), width),
    height: isWide ? Math.min(Math.ceil(image.height * scales.x), height) : height,
  };
  const resized = resizeImage(image, fitted);
  const left = Math.floor((width - fitted.width) / 2);
  const top = Math.floor((height - fitted.height) / 2);
  const data = new Uint8Array(3 * width * height);
  for (let y = 0; y < fitted.height; y++) {
    const from = 3 * y * fitted.width;
    const line = resized.data.subarray(from, from + 3 * fitted.width);
    data.set(line, 3 * ((top + y) * width + left));
  }
  return { width, height, data };
}
