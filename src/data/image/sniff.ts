/**
 * The type of an image file, decided by its first bytes and never by its name.
 */
import { ImageError } from './rgb-image.js';

export type ImageFormat = 'jpeg' | 'png' | 'webp' | 'gif' | 'tiff' | 'bmp';

/** Magic numbers, tried in order against the beginning of the file read as Latin-1. */
const FORMATS: [RegExp, ImageFormat][] = [
  [/^\xff\xd8\xff/, 'jpeg'],
  [/^\x89PNG\r\n\x1a\n/, 'png'],
  [/^RIFF[^]{4}WEBP/, 'webp'],
  [/^GIF8[79]a/, 'gif'],
  [/^(II[*+]\0|MM\0[*+])/, 'tiff'],
  [/^BM/, 'bmp'],
];

/** What is found instead, in data that were fetched from the web or from a repository. */
const STRANGERS: [RegExp, string, hint?: string][] = [
  [
    /^version https:\/\/git-lfs/,
    'a Git LFS pointer instead of an image',
    'Run `git lfs pull` where the images come from.',
  ],
  [
    /^\s*<(!doctype\s+html|html|head)/i,
    'a web page, perhaps the error page of a download',
    'Fetch the image again.',
  ],
  [/^\s*(<\?xml[^]*)?<svg/i, 'an SVG drawing'],
  [/^[^]{4}ftyp(avi|hei|mif|hev)/, 'an AVIF or HEIF image'],
  [/^(\0\0\0\x0cJXL |\xff\x0a)/, 'a JPEG XL image'],
  [/^\0\0\0\x0cjP /, 'a JPEG 2000 image'],
  [/^%PDF/, 'a PDF document'],
  [/^8BPS/, 'a Photoshop document'],
  [/^(PK\x03\x04|\x1f\x8b|BZh|7z\xbc\xaf)/, 'an archive'],
];

/**
 * The format of a file, or a typed error that says what the file is instead.
 *
 * @throws ImageError `E_IMAGE_TYPE`, or `E_IMAGE_TRUNCATED` for an empty file
 */
export function sniff(file: Buffer, name: string): ImageFormat {
  if (file.length === 0) throw new ImageError(name, 'E_IMAGE_TRUNCATED', 'the file is empty');
  const head = file.toString('latin1', 0, 1024);
  const format = FORMATS.find(([magic]) => magic.test(head))?.[1];
  if (format !== undefined) return format;
  const [, what, hint] = STRANGERS.find(([magic]) => magic.test(head)) ?? [];
  throw new ImageError(
    name,
    'E_IMAGE_TYPE',
    what === undefined
      ? 'the content is no JPEG, PNG, WebP, GIF, TIFF or BMP'
      : `the file is ${what}`,
    hint === undefined ? {} : { hint },
  );
}
