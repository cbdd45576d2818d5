/**
 * The head of a TIFF file's first page (TIFF 6.0), and which kinds are read: those where libtiff's samples lead to
 * Pillow's pixels.
 */
import { Directory } from './directory.js';
import type { FormatHeader } from './format-header.js';
import { directoryOrientation, ORIENTATION_TAG, xmpOrientation } from './orientation.js';
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

const COMPRESSIONS = new Map([
  [1, 'none'],
  [2, 'CCITT RLE'],
  [3, 'CCITT group 3'],
  [4, 'CCITT group 4'],
  [5, 'LZW'],
  [7, 'JPEG'],
  [8, 'deflate'],
  [32_773, 'PackBits'],
  [32_946, 'deflate'],
]);
const JPEG_COMPRESSION = 7;

const PHOTOMETRIC = { whiteIsZero: 0, blackIsZero: 1, rgb: 2, palette: 3, cmyk: 5, yCbCr: 6 };

/** An extra sample that is an alpha with which the colours have been multiplied. */
const ASSOCIATED_ALPHA = 1;
const UNASSOCIATED_ALPHA = 2;

export function tiffHeader(file: Buffer, name: string): FormatHeader {
  const directory = new Directory(file);
  const first = (tag: number, otherwise: number) => directory.numbers(tag)[0] ?? otherwise;
  const photometric = first(TAG.photometric, PHOTOMETRIC.whiteIsZero);
  const compression = first(TAG.compression, 1);
  const bits = first(TAG.bitsPerSample, 1);
  const samples = first(TAG.samplesPerPixel, 1);

  const refuse = (what: string) => new ImageError(name, 'E_IMAGE_TYPE', `${what} is not read`);
  if (!COMPRESSIONS.has(compression)) throw refuse(`a TIFF of compression ${compression}`);
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
    orientation: turning(directory),
    samples:
      photometric === PHOTOMETRIC.cmyk
        ? 'cmyk'
        : isGrey16(directory, photometric, bits, samples)
          ? 'grey16'
          : isPremultiplied(directory, photometric)
            ? 'premultiplied'
            : 'rgb',
  };
}

/** The file as libtiff should read it: an orientation that does not exist is an error there, and alpha is left alone. */
export function tiffForDecoder(file: Buffer): Buffer {
  const copy = Buffer.from(file);
  const directory = new Directory(copy);
  directory.overwrite(ORIENTATION_TAG, 1);
  if (directory.numbers(TAG.extraSamples)[0] === ASSOCIATED_ALPHA) {
    directory.overwrite(TAG.extraSamples, UNASSOCIATED_ALPHA);
  }
  return copy;
}

/** Whether the stored grey counts down from white; the decoder counts it up, Pillow takes 16-bit grey as it is. */
export function isWhiteZero(file: Buffer): boolean {
  return (new Directory(file).numbers(TAG.photometric)[0] ?? 0) === PHOTOMETRIC.whiteIsZero;
}

function turning(directory: Directory): number {
  const value = directoryOrientation(directory) ?? xmpOrientation(directory.bytes(TAG.xmp)) ?? 1;
  return value >= 1 && value <= 8 ? value : 1;
}

function isGrey16(directory: Directory, photometric: number, bits: number, samples: number) {
  const unsigned = (directory.numbers(TAG.sampleFormat)[0] ?? 1) === 1;
  return photometric <= PHOTOMETRIC.blackIsZero && bits === 16 && samples === 1 && unsigned;
}

function isPremultiplied(directory: Directory, photometric: number): boolean {
  const extra = directory.numbers(TAG.extraSamples)[0];
  return photometric === PHOTOMETRIC.rgb && extra === ASSOCIATED_ALPHA;
}
