/** The image of a record as the model takes it, one square or tiles: from a file, a `data:` URL, or bytes. */
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { decodeImage } from '../image/decode.js';
import { readImageFile } from '../image/read-image.js';
import { ImageError, type Reading, type RgbImage } from '../image/rgb-image.js';
import { fitPicture, type PictureBytes, type PictureFit } from '../image/tile.js';
import type { ImageSource } from '../records/record.js';

export interface LoadImageOptions extends PictureFit {
  reading: Reading;
  /** What relative paths start from. */
  folder: string;
  /** How many pictures the record has. */
  pictures: number;
}

/**
 * Bytes (S, S, 3), or those of tiles.
 *
 * @throws ImageError with the path
 */
export async function loadImage(
  source: ImageSource,
  { reading, folder, pictures, ...fit }: LoadImageOptions,
): Promise<PictureBytes> {
  return fitPicture(await decodeSource(source, { reading, folder }), fit, pictures);
}

/** The whole image, as it is. @throws ImageError with the path */
export async function decodeSource(
  source: ImageSource,
  { reading, folder }: Pick<LoadImageOptions, 'reading' | 'folder'>,
): Promise<RgbImage> {
  const { bytes, name } = await imageBytes(source, folder);
  return decodeImage(bytes, { name, reading });
}

/** The file of an image, as it is stored. @throws ImageError with the path */
export async function imageBytes(
  source: ImageSource,
  folder: string,
): Promise<{ readonly bytes: Uint8Array; readonly name: string }> {
  if (typeof source !== 'string') {
    return { bytes: source.bytes, name: source.path ?? 'the image' };
  }
  if (/^data:/i.test(source)) {
    const name = 'the image of a data: URL';
    return { bytes: dataUrlBytes(source, name), name };
  }
  if (/^https?:/i.test(source)) {
    throw new ImageError(source, 'E_IMAGE_UNREADABLE', 'images are not fetched from the network', {
      hint: 'Download the images, and name them by their paths.',
    });
  }
  const path = pathOf(source, folder);
  return { bytes: await readImageFile(path), name: path };
}

/** Where a path or `file:` URL of a record leads. */
export function pathOf(source: string, folder: string): string {
  if (!/^file:/i.test(source)) return isAbsolute(source) ? source : join(folder, source);
  try {
    return fileURLToPath(source);
  } catch (cause) {
    throw new ImageError(source, 'E_IMAGE_UNREADABLE', 'the URL names no local file', { cause });
  }
}

function dataUrlBytes(url: string, name: string): Buffer {
  const comma = url.indexOf(',');
  if (comma >= 0 && /;\s*base64\s*$/i.test(url.slice(0, comma))) {
    return Buffer.from(url.slice(comma + 1), 'base64');
  }
  throw new ImageError(name, 'E_IMAGE_UNREADABLE', 'it is not in base64');
}
