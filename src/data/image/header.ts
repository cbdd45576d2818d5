/**
 * What the head of an image file says, read without decoding a pixel: type by content, size, orientation and how its
 * samples are to be understood.
 */
import { bmpHeader } from './bmp.js';
import type { FormatHeader, HeaderReader } from './format-header.js';
import { gifHeader } from './gif.js';
import { jpegHeader } from './jpeg.js';
import { pngHeader } from './png.js';
import type { ImageLimits, Reading } from './rgb-image.js';
import { DEFAULT_LIMITS, ImageError } from './rgb-image.js';
import type { ImageFormat } from './sniff.js';
import { sniff } from './sniff.js';
import { tiffHeader } from './tiff.js';
import { webpHeader } from './webp.js';

export interface ImageHeader extends FormatHeader {
  format: ImageFormat;
}

const READERS: Record<ImageFormat, HeaderReader> = {
  jpeg: jpegHeader,
  png: pngHeader,
  webp: webpHeader,
  gif: gifHeader,
  tiff: tiffHeader,
  bmp: bmpHeader,
};

/**
 * Reads the head of an image file and holds it against the limits.
 *
 * @throws ImageError
 */
export function readHeader(file: Buffer, name: string, limits: ImageLimits = {}): ImageHeader {
  const { bytes, pixels, side } = { ...DEFAULT_LIMITS, ...limits };
  if (file.length > bytes) {
    const reason = `the file has ${file.length} bytes, over the limit of ${bytes}`;
    throw new ImageError(name, 'E_IMAGE_TOO_LARGE', reason);
  }
  const format = sniff(file, name);
  const header = { format, ...withinFile(name, format, () => READERS[format](file, name)) };
  const { width, height } = header;
  const size = `the image is ${width} x ${height} pixels`;
  if (width < 1 || height < 1) throw new ImageError(name, 'E_IMAGE_BROKEN', size);
  if (width * height > pixels || Math.max(width, height) > side) {
    const reason = `${size}, over the limit of ${pixels} in all and ${side} along a side`;
    throw new ImageError(name, 'E_IMAGE_TOO_LARGE', reason);
  }
  return header;
}

/** Takes a read behind the end of the file for what it means. */
export function withinFile<T>(name: string, format: ImageFormat, read: () => T): T {
  try {
    return read();
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause;
    const reason = `the ${format.toUpperCase()} ends before its image does`;
    throw new ImageError(name, 'E_IMAGE_TRUNCATED', reason, { cause });
  }
}

/** The orientation that a reading applies: Pillow turns TIFF by itself, even when nobody asks. */
export function appliedOrientation(header: ImageHeader, reading: Reading): number {
  return reading === 'turned' || header.format === 'tiff' ? header.orientation : 1;
}

/**
 * Width and height that `decodeImage` would give, from the head of the file alone.
 *
 * @throws ImageError
 */
export function imageSize(
  bytes: Uint8Array,
  { name, reading = 'turned', limits }: { name: string; reading?: Reading; limits?: ImageLimits },
): { width: number; height: number } {
  const header = readHeader(asBuffer(bytes), name, limits);
  const { width, height } = header;
  return appliedOrientation(header, reading) > 4
    ? { width: height, height: width }
    : { width, height };
}

/** The same memory as a Buffer. */
export function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
