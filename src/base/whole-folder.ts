/**
 * Folders that are whole or absent: written under a temporary name beside the target, synced, then renamed.
 *
 * A crash at any moment leaves under the target's name either nothing or everything, and at worst a hidden folder
 * `.NAME.partial-...` beside it that nobody reads. (rename(2) is atomic; fsync(2) of files and folders makes it last.)
 */
import { randomBytes } from 'node:crypto';
import { lstat, mkdir, open, readdir, rename, rm } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { EnvironmentError } from './errors.js';
import { errorCode, writeError } from './system-error.js';

export interface WholeFolderOptions {
  /** What is written, for messages. @default 'folder' */
  what?: string;
  /** Put the new folder in place of what is at the target. @default false */
  replace?: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Writes the folder `target`: `write` fills the empty folder whose path it gets, and nothing is visible at `target`
 * before it has returned and everything is on the disk.
 *
 * @throws EnvironmentError E_EXISTS when the target exists and may not be replaced, E_DISK_FULL, E_UNWRITABLE; and what
 *   `write` throws. The temporary folder is removed then.
 */
export async function writeWholeFolder<T>(
  target: string,
  write: (temporary: string) => T | Promise<T>,
  { what = 'folder', replace = false, signal }: WholeFolderOptions = {},
): Promise<T> {
  const path = resolve(target);
  const beside = join(dirname(path), `.${basename(path)}`);
  const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
  const temporary = `${beside}.partial-${suffix}`;
  try {
    signal?.throwIfAborted();
    if (!replace) await refuseExisting(path, what);
    await mkdir(temporary, { recursive: true });
    const result = await write(temporary);
    signal?.throwIfAborted();
    await syncAll(temporary);
    if (replace) await putInPlace(temporary, path, `${beside}.replaced-${suffix}`);
    else {
      // rename(2) takes the place of an empty folder, so look again.
      await refuseExisting(path, what);
      await rename(temporary, path);
    }
    await syncOne(dirname(path));
    return result;
  } catch (error) {
    // The first fault says more than one in clearing up.
    await rm(temporary, { recursive: true, force: true }).catch(() => undefined);
    throw writeError(error, path, `write the ${what}`);
  }
}

async function putInPlace(temporary: string, path: string, old: string): Promise<void> {
  if (!(await exists(path))) {
    await rename(temporary, path);
    return;
  }
  await rename(path, old);
  try {
    await rename(temporary, path);
  } catch (error) {
    await rename(old, path);
    throw error;
  }
  await rm(old, { recursive: true, force: true });
}

async function refuseExisting(path: string, what: string): Promise<void> {
  if (!(await exists(path))) return;
  throw new EnvironmentError(`Could not write the ${what}: ${path} exists already.`, {
    code: 'E_EXISTS',
    hint: 'Choose another name, or move away what is there.',
  });
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return false;
    throw error;
  }
}

async function syncAll(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { withFileTypes: true })) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) await syncAll(path);
    else if (entry.isFile()) await syncOne(path);
  }
  await syncOne(folder);
}

async function syncOne(path: string): Promise<void> {
  const file = await open(path, 'r');
  try {
    await file.sync();
  } finally {
    await file.close();
  }
}
