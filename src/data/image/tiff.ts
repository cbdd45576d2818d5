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
  colourMap: 320,
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

/** Sample formats: integers without a sign and with one, floats. */
const UNSIGNED = 1;
const SIGNED = 2;
const FLOAT = 3;

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
  if (!isKnownArrangement(directory, photometric, bits, samples)) {
    const what = `samples of ${bits} bits, photometric interpretation ${photometric}`;
    throw refuse(
      `a TIFF of ${samples} ${what}, sample format ${first(TAG.sampleFormat, UNSIGNED)}`,
    );
  }
  if (photometric === PHOTOMETRIC.palette && !directory.has(TAG.colourMap)) {
    // libtiff would make every colour black.
    throw new RangeError('the palette is cut off');
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

/** Whether Pillow has a mode for these samples, one for which libtiff gives its pixels. */
function isKnownArrangement(
  directory: Directory,
  photometric: number,
  bits: number,
  samples: number,
): boolean {
  const isLittle = directory.isLittleEndian;
  const format = directory.numbers(TAG.sampleFormat)[0] ?? UNSIGNED;
  const extra = directory.numbers(TAG.extraSamples);
  const isEven = (tag: number): boolean => new Set(directory.numbers(tag)).size <= 1;
  if (!isEven(TAG.bitsPerSample) || !isEven(TAG.sampleFormat)) return false;
  const known = (...sets: readonly number[][]): boolean =>
    sets.some((set) => set[0] === format && set.slice(1).includes(bits));
  switch (photometric) {
    case PHOTOMETRIC.whiteIsZero:
      if (samples !== 1 || extra.length > 0) return false;
      return known([UNSIGNED, 1, 2, 4, 8, ...(isLittle ? [16] : [])], [FLOAT, 32]);
    case PHOTOMETRIC.blackIsZero:
      if (samples === 2) return known([UNSIGNED, 8]) && extra.length === 1 && extra[0]! <= 2;
      if (samples !== 1 || extra.length > 0) return false;
      return known(
        [UNSIGNED, 1, 2, 4, 8, 16, ...(isLittle ? [32] : [])],
        [SIGNED, 8, 16, 32],
        [FLOAT, 32],
      );
    case PHOTOMETRIC.palette:
      if (samples === 2) return known([UNSIGNED, 8]) && (extra[0] === 0 || extra[0] === 2);
      return samples === 1 && extra.length === 0 && known([UNSIGNED, 1, 2, 4, 8]);
    case PHOTOMETRIC.rgb: {
      const alone = samples === 3 || samples === 4;
      if (extra.length === 0) return alone && known([UNSIGNED, 8, 16]);
      const [alpha = 0, ...more] = extra;
      const isNamed = samples === 3 + extra.length && more.every((kind) => kind === 0);
      if (bits === 16 && (samples !== 4 || alpha > 2)) return false;
      return isNamed && samples <= 6 && [0, 1, 2, 999].includes(alpha) && known([UNSIGNED, 8, 16]);
    }
    case PHOTOMETRIC.cmyk:
      return samples === 4 && extra.length === 0 && known([UNSIGNED, 8]);
    default:
      return known([UNSIGNED, 8]) && (samples === 1 || samples === 3) && extra.length === 0;
  }
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
