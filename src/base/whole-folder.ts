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

/** A folder that is being written, and is nothing yet. */
export class WholeFolder {
  private constructor(
    /** Of the folder as it will be. */
    readonly path: string,
    /** Of the empty folder to be filled. */
    readonly temporary: string,
    private readonly options: Required<Pick<WholeFolderOptions, 'what' | 'replace'>>,
  ) {}

  /** @throws EnvironmentError as `writeWholeFolder` */
  static async begin(
    target: string,
    { what = 'folder', replace = false }: WholeFolderOptions = {},
  ): Promise<WholeFolder> {
    const path = resolve(target);
    const suffix = `${process.pid}-${randomBytes(4).toString('hex')}`;
    const folder = new WholeFolder(path, hidden(path, 'partial', suffix), { what, replace });
    try {
      if (!replace) await refuseExisting(path, what);
      await mkdir(folder.temporary, { recursive: true });
      return folder;
    } catch (error) {
      throw await folder.abandon(error);
    }
  }

  /** Syncs what was written, and gives it its name. */
  async commit(): Promise<void> {
    const { path, temporary } = this;
    const { what, replace } = this.options;
    await syncAll(temporary);
    if (replace) await putInPlace(temporary, path);
    else {
      // rename(2) takes the place of an empty folder, so look again.
      await refuseExisting(path, what);
      await rename(temporary, path);
    }
    await syncOne(dirname(path));
  }

  /** Removes what was written, and gives the error that ends it as it is to be told. */
  async abandon(error: unknown): Promise<unknown> {
    // The first fault says more than one in clearing up.
    await rm(this.temporary, { recursive: true, force: true }).catch(() => undefined);
    return writeError(error, this.path, `write the ${this.options.what}`);
  }
}

/** The path of a hidden folder beside another. */
function hidden(path: string, kind: 'partial' | 'replaced', suffix: string): string {
  return join(dirname(path), `.${basename(path)}.${kind}-${suffix}`);
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
  { signal, ...options }: WholeFolderOptions = {},
): Promise<T> {
  signal?.throwIfAborted();
  const folder = await WholeFolder.begin(target, options);
  try {
    const result = await write(folder.temporary);
    signal?.throwIfAborted();
    await folder.commit();
    return result;
  } catch (error) {
    throw await folder.abandon(error);
  }
}

async function putInPlace(temporary: string, path: string): Promise<void> {
  if (!(await exists(path))) {
    await rename(temporary, path);
    return;
  }
  const old = hidden(path, 'replaced', randomBytes(4).toString('hex'));
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
