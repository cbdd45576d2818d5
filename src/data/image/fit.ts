/**
 * An image fitted to the square that a vision tower takes, byte for byte as CLIP's and SigLIP's image processors with Pillow's
 * bicubic filter.
 */
import { createRequire } from 'node:module';

import { UsageError } from '../../base/errors.js';
import { nativeLibrary } from '../../base/native-path.js';
import { CLIP_BACKGROUND } from './normalise.js';
import type { RgbImage } from './rgb-image.js';

/**
 * - `pad`: the whole image, centred on a square of its longer side (LLaVA-1.5; XTuner's fine-tuning and chat).
 * - `crop`: the shorter side fitted, the middle of the longer one kept (CLIP's default; XTuner's pretraining).
 * - `squeeze`: both sides fitted, whatever the proportions (SigLIP's default).
 */
export type FitMode = 'pad' | 'crop' | 'squeeze';

export interface FitOptions {
  /** Side of the result in pixels. */
  size: number;
  mode: FitMode;
  /** Colour of the padding. @default CLIP's mean colour, (122, 116, 104) */
  background?: readonly [red: number, green: number, blue: number];
}

interface Pixels {
  /** See native/pixels/addon.cc for the order of the numbers. */
  resize(source: Uint8Array, target: Uint8Array, numbers: Float64Array): void;
}

const LARGEST_SIZE = 8192;

let pixels: Pixels | undefined;

/**
 * The image as `size` x `size` pixels.
 *
 * A canvas (the padded square, or the image itself) is resized to `size` along its shorter side and to
 * `trunc(size x long / short)` along the other, of which the middle `size` are made: offset `floor((long - size) / 2)`; squeezed it
 * is `size` along both.
 * Along x first, as Pillow to version 12 always does; Pillow 13 begins along y with some pictures much taller than
 * wide, whence in `crop` and `squeeze` mode a few bytes of those differ from it.
 * Stateless: any thread may call it.
 *
 * @throws UsageError for a size, background or buffer that does not fit
 */
export function fitImage(image: RgbImage, { size, mode, background }: FitOptions): RgbImage {
  const { width, height, data } = image;
  const colour = background ?? CLIP_BACKGROUND;
  if (!Number.isInteger(size) || size < 1 || size > LARGEST_SIZE) {
    throw fault(`size must be an integer from 1 to ${LARGEST_SIZE}, not ${size}`);
  }
  if (!colour.every((value) => Number.isInteger(value) && value >= 0 && value <= 255)) {
    throw fault(`background must be three integers from 0 to 255, not ${colour.join(', ')}`);
  }
  const whole = Number.isInteger(width) && Number.isInteger(height) && width >= 1 && height >= 1;
  if (!whole || data.length !== 3 * width * height) {
    throw fault(`an image of ${width} x ${height} pixels cannot have ${data.length} bytes`);
  }

  const long = Math.max(width, height);
  const canvas = mode === 'pad' ? { width: long, height: long } : { width, height };
  const short = Math.min(canvas.width, canvas.height);
  const fitted = (side: number): number =>
    mode === 'squeeze' ? size : Math.trunc((size * side) / short);
  const resized = { width: fitted(canvas.width), height: fitted(canvas.height) };
  const middle = (whole: number, part: number) => Math.floor((whole - part) / 2);
  const target = new Uint8Array(3 * size * size);
  pixels ??= createRequire(import.meta.url)(nativeLibrary('pixels')) as Pixels;
  pixels.resize(
    data,
    target,
    Float64Array.of(
      ...[width, height],
      ...[canvas.width, canvas.height],
      ...[middle(canvas.width, width), middle(canvas.height, height)],
      ...[resized.width, resized.height],
      ...[middle(resized.width, size), middle(resized.height, size)],
      ...[size, size],
      ...colour,
    ),
  );
  return { width: size, height: size, data: target };
}

/**
 * The whole image at another size, whatever the proportions, by the same filter.
 *
 * @throws UsageError for a size or buffer that does not fit
 */
export function resizeImage(
  image: RgbImage,
  { width, height }: Pick<RgbImage, 'width' | 'height'>,
): RgbImage {
  for (const side of [width, height]) {
    if (Number.isInteger(side) && side >= 1 && side <= LARGEST_SIZE) continue;
    throw fault(`sides must be integers from 1 to ${LARGEST_SIZE}, not ${side}`);
  }
  if (image.data.length !== 3 * image.width * image.height) {
    throw fault(`an image of ${image.width} x ${image.height} pixels has other bytes`);
  }
  const target = new Uint8Array(3 * width * height);
  const whole = [image.width, image.height];
  pixels ??= createRequire(import.meta.url)(nativeLibrary('pixels')) as Pixels;
  pixels.resize(
    image.data,
    target,
    Float64Array.of(
      ...[...whole, ...whole, 0, 0],
      ...[width, height, 0, 0, width, height],
      ...CLIP_BACKGROUND,
    ),
  );
  return { width, height, data: target };
}

function fault(message: string): UsageError {
  return new UsageError(`fitImage: ${message}.`, {
    code: 'E_IMAGE_FIT',
    hint: 'Pass an RgbImage as decodeImage returns it, and the size of the vision tower.',
  });
}
