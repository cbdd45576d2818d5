/**
 * The head of a TIFF file's first page (TIFF 6.0), and which kinds are read: those where libtiff's samples lead to
 * Pillow's pixels.
 */
import { Directory } from './directory.js';
import type { FormatHeader } from './format-header.js';
import { directoryOrientation, ORIENTATION_TAG, existing, xmpOrientation } from './orientation.js';
import { ImageError } from './rgb-image.js';

const TAG = {
  width: 256,
  height: 257,
  bitsPerSample: 258,
  compression: 259,
  photometric: 262,
  samplesPerPixel: 277,
  extraSamples: 338,
  sampleFormat: 339,
  xmp: 700,
} as const;

/** None, CCITT RLE, group 3 and 4, LZW, JPEG, deflate, PackBits, deflate by its older number. */
const COMPRESSIONS = [1, 2, 3, 4, 5, 7, 8, 32_773, 32_946];
const JPEG_COMPRESSION = 7;

const PHOTOMETRIC = { whiteIsZero: 0, blackIsZero: 1, rgb: 2, palette: 3, cmyk: 5, yCbCr: 6 };

/** An extra sample that is an alpha with which the colours have been multiplied. */
const ASSOCIATED_ALPHA = 1;
const UNASSOCIATED_ALPHA = 2;

/** The sample format of integers without a sign. */
const UNSIGNED = 1;

export function tiffHeader(file: Buffer, name: string): FormatHeader {
  const directory = new Directory(file);
  const first = (tag: number, otherwise: number) => directory.numbers(tag)[0] ?? otherwise;
  const photometric = photometricOf(directory);
  const compression = first(TAG.compression, 1);
  const bits = first(TAG.bitsPerSample, 1);
  const samples = first(TAG.samplesPerPixel, 1);

  const refuse = (what: string) => new ImageError(name, 'E_IMAGE_TYPE', `${what} is not read`);
  if (!COMPRESSIONS.includes(compression)) throw refuse(`a TIFF of compression ${compression}`);
  if (!Object.values(PHOTOMETRIC).includes(photometric)) {
    throw refuse(`a TIFF of photometric interpretation ${photometric}`);
  }
  if (photometric === PHOTOMETRIC.yCbCr && compression !== JPEG_COMPRESSION) {
    throw refuse('a YCbCr TIFF without JPEG compression');
  }
  if (photometric === PHOTOMETRIC.cmyk && (bits !== 8 || samples !== 4)) {
    throw refuse(`a CMYK TIFF of ${samples} samples of ${bits} bits`);
  }

  return {
    width: first(TAG.width, 0),
    height: first(TAG.height, 0),
    orientation: existing(
      directoryOrientation(directory) ?? xmpOrientation(directory.bytes(TAG.xmp)),
    ),
    samples:
      photometric === PHOTOMETRIC.cmyk
        ? 'cmyk'
        : isGrey16(directory)
          ? 'grey16'
          : isPremultiplied(directory)
            ? 'premultiplied'
            : 'rgb',
  };
}

/** The file as libtiff should read it: an orientation that does not exist is an error there, and alpha is left alone. */
export function tiffForDecoder(file: Buffer): Buffer {
  const copy = Buffer.from(file);
  const directory = new Directory(copy);
  directory.overwrite(ORIENTATION_TAG, 1);
  if (isPremultiplied(directory)) directory.overwrite(TAG.extraSamples, UNASSOCIATED_ALPHA);
  return copy;
}

/** Whether the stored grey counts down from white; the decoder counts it up, Pillow takes 16-bit grey as it is. */
export function isWhiteZero(file: Buffer): boolean {
  return photometricOf(new Directory(file)) === PHOTOMETRIC.whiteIsZero;
}

function isGrey16(directory: Directory): boolean {
  const first = (tag: number) => directory.numbers(tag)[0] ?? 1;
  return (
    photometricOf(directory) <= PHOTOMETRIC.blackIsZero &&
    first(TAG.bitsPerSample) === 16 &&
    first(TAG.samplesPerPixel) === 1 &&
    first(TAG.sampleFormat) === UNSIGNED
  );
}

function isPremultiplied(directory: Directory): boolean {
  const extra = directory.numbers(TAG.extraSamples)[0];
  return photometricOf(directory) === PHOTOMETRIC.rgb && extra === ASSOCIATED_ALPHA;
}

function photometricOf(directory: Directory): number {
  return directory.numbers(TAG.photometric)[0] ?? PHOTOMETRIC.whiteIsZero;
}
