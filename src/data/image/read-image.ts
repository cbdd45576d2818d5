/**
 * Image files from disk.
 */
import { constants } from 'node:fs';
import { open } from 'node:fs/promises';

import { errorCode } from '../../base/system-error.js';
import type { DecodeOptions } from './decode.js';
import { decodeImage } from './decode.js';
import type { RgbImage } from './rgb-image.js';
import { DEFAULT_LIMITS, ImageError } from './rgb-image.js';

/**
 * Reads and decodes an image file.
 *
 * @throws ImageError with the path, also where the file is missing, a folder or a pipe
 */
export async function readImage(
  path: string,
  { name = path, ...options }: Partial<DecodeOptions> = {},
): Promise<RgbImage> {
  return decodeImage(await readImageFile(path, { name, ...options }), { name, ...options });
}

/** The bytes of an image file, not read when there are more than the limit allows. */
export async function readImageFile(
  path: string,
  { name = path, limits = {} }: Partial<DecodeOptions> = {},
): Promise<Buffer> {
  const { bytes: limit } = { ...DEFAULT_LIMITS, ...limits };
  const unreadable = (reason: string, cause?: unknown) =>
    new ImageError(name, 'E_IMAGE_UNREADABLE', reason, { cause });
  try {
    // Not waiting for a writer, opening a pipe by mistake cannot hang.
    const handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
    try {
      const stat = await handle.stat();
      if (!stat.isFile()) throw unreadable('the path is no regular file');
      if (stat.size > limit) {
        const reason = `the file has ${stat.size} bytes, over the limit of ${limit}`;
        throw new ImageError(name, 'E_IMAGE_TOO_LARGE', reason);
      }
      return await handle.readFile();
    } finally {
      await handle.close();
    }
  } catch (cause) {
    if (cause instanceof ImageError) throw cause;
    const missing = errorCode(cause) === 'ENOENT';
    throw unreadable(missing ? 'there is no such file' : 'the file cannot be read', cause);
  }
}
