/** The image of a record as the square that the model takes: from a file, a `data:` URL, or bytes. */
import { isAbsolute, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { decodeImage } from '../image/decode.js';
import { fitImage, type FitOptions } from '../image/fit.js';
import { readImage } from '../image/read-image.js';
import { ImageError, type Reading, type RgbImage } from '../image/rgb-image.js';
import type { ImageSource } from '../records/record.js';

export interface LoadImageOptions extends FitOptions {
  reading: Reading;
  /** What relative paths start from. */
  folder: string;
}

/**
 * Bytes (S, S, 3).
 *
 * @throws ImageError with the path
 */
export async function loadImage(
  source: ImageSource,
  { reading, folder, ...fit }: LoadImageOptions,
): Promise<Uint8Array> {
  return fitImage(await decode(source, reading, folder), fit).data;
}

async function decode(source: ImageSource, reading: Reading, folder: string): Promise<RgbImage> {
  if (typeof source !== 'string') {
    return decodeImage(source.bytes, { name: source.path ?? 'the image', reading });
  }
  if (/^data:/i.test(source)) {
    const name = 'the image of a data: URL';
    return decodeImage(dataUrlBytes(source, name), { name, reading });
  }
  if (/^https?:/i.test(source)) {
    throw new ImageError(source, 'E_IMAGE_UNREADABLE', 'images are not fetched from the network', {
      hint: 'Download the images, and name them by their paths.',
    });
  }
  return readImage(pathOf(source, folder), { reading });
}

function pathOf(source: string, folder: string): string {
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
