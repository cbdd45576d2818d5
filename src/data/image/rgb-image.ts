/**
 * An image in memory, the limits on reading one, and the errors of a file that cannot become one.
 */
import { DataError } from '../../base/errors.js';
import { shortText } from '../../base/short-text.js';

/** 8-bit RGB without alpha. */
export interface RgbImage {
  width: number;
  height: number;
  /** `[height][width][3]`, row by row from the top. */
  data: Uint8Array;
}

/**
 * How the pixels of a file are read.
 *
 * - `turned`: upright by its EXIF or XMP orientation; 16-bit grey by its high byte.
 * - `stored`: as XTuner and official LLaVA see it: never turned (except TIFF), 16-bit grey cut at 255, thus nearly white.
 */
export type Reading = 'turned' | 'stored';

/** What a file may ask for before it is refused. */
export interface ImageLimits {
  /** Longest file in bytes. @default 536_870_912 (512 MiB) */
  bytes?: number;
  /** Most pixels, width x height. @default 178_956_970, where Pillow takes a file for a decompression bomb */
  pixels?: number;
  /** Longest side in pixels, the most that JPEG can express. @default 65_535 */
  side?: number;
  /** Longest time that the decoder may take. @default 120 */
  seconds?: number;
}

export const DEFAULT_LIMITS: Required<ImageLimits> = {
  bytes: 512 * 1024 * 1024,
  pixels: 178_956_970,
  side: 65_535,
  seconds: 120,
};

const HINTS = {
  /** The file does not exist, cannot be read or is no regular file. */
  E_IMAGE_UNREADABLE: 'Check the path and the permissions of the file.',
  /** It is no image, or of a type that is not read. */
  E_IMAGE_TYPE: 'Convert the file to JPEG or PNG, or remove it from the data.',
  /** It ends before its image does. */
  E_IMAGE_TRUNCATED: 'Fetch the file again: a part of it is missing.',
  /** Its content contradicts itself. */
  E_IMAGE_BROKEN: 'Replace the file or remove it from the data.',
  /** It is over a limit on bytes, pixels, side or time. */
  E_IMAGE_TOO_LARGE: 'Scale the image down, or raise the limit if you trust the file.',
} as const;

export type ImageErrorCode = keyof typeof HINTS;

/** A file that cannot be read as an image; the message begins with the file's name. */
export class ImageError extends DataError {
  constructor(
    name: string,
    code: ImageErrorCode,
    reason: string,
    { hint = HINTS[code], cause }: { hint?: string; cause?: unknown } = {},
  ) {
    super(`${shortText(name)}: ${reason}.`, { code, hint, cause });
  }
}
