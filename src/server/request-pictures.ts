/** Pictures of a request: data URLs, and files under a folder that the server was told of. Nothing is fetched from elsewhere. */
import { realpath } from 'node:fs/promises';
import { sep } from 'node:path';
import { fileURLToPath } from 'node:url';

import { DataError } from '../base/errors.js';
import type { ImageLimits } from '../data/image/rgb-image.js';
import { type PictureSettings, readPicture } from '../generate/index.js';
import type { ImagePixels } from '../models/index.js';
import type { Reading } from '../data/image/rgb-image.js';
import { ApiError } from './api-error.js';

export interface PictureSource {
  /** Folder whose files may be shown, its links resolved; none without it. */
  readonly files: string | undefined;
  readonly limits: ImageLimits;
}

/** How the pictures of a model are read. */
export interface PictureReading {
  readonly pictures: PictureSettings | null;
  readonly reading: Reading;
  /** How many the request has. */
  readonly count: number;
}

const DATA_URL = /^data:image\/[a-z0-9.+-]+;base64,/i;

/**
 * @param param the field of the request
 * @throws ApiError, with the code of `readPicture` where that is what refuses the picture
 */
export async function requestPicture(
  url: string,
  param: string,
  { pictures, reading, count }: PictureReading,
  { files, limits }: PictureSource,
): Promise<ImagePixels> {
  const source = await pictureOf(url, param, files);
  try {
    return await readPicture(source, pictures, { name: param, reading, limits, pictures: count });
  } catch (cause) {
    if (!(cause instanceof DataError)) throw cause;
    const { message, code, hint } = cause;
    throw new ApiError(message, { param, code, hint, cause });
  }
}

/** Its bytes, or the file that holds them. */
async function pictureOf(
  url: string,
  param: string,
  files: string | undefined,
): Promise<Buffer | string> {
  const head = DATA_URL.exec(url.slice(0, 100));
  if (head !== null) {
    const text = url.slice(head[0].length);
    if (!/^[A-Za-z0-9+/]+={0,2}$/.test(text)) throw refused(param, 'is no base64');
    return Buffer.from(text, 'base64');
  }
  if (!url.startsWith('file:')) throw refused(param, 'is neither a data URL nor a file');
  return allowedFile(url, param, files);
}

/** What lies outside of the folder and what does not exist are told apart for nobody. */
async function allowedFile(url: string, param: string, root: string | undefined): Promise<string> {
  if (root === undefined) throw refused(param, 'is a file, and this server shows none');
  let path: string | undefined;
  try {
    path = await realpath(fileURLToPath(url));
  } catch {
    // Neither a path nor there.
  }
  if (path?.startsWith(root.endsWith(sep) ? root : root + sep) === true) return path;
  throw refused(param, 'is no file under the folder that this server shows');
}

function refused(param: string, problem: string): ApiError {
  return new ApiError(`${param} ${problem}.`, {
    ...{ param, code: 'invalid_image_url' },
    hint: 'Send a picture as data:image/png;base64,... or as file:///... under the folder of --files.',
  });
}
