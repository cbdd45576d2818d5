/** Whether a target can be written: tried before the work whose result goes there. */
import { randomBytes } from 'node:crypto';
import { lstat, open, rm, stat } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { errorCode, unwritable, writing } from './system-error.js';

/**
 * A file that is replaced as a whole, one that is appended to, a folder that is new or takes another's place, or one in which something is
 * made.
 */
export type TargetKind = 'file' | 'log' | 'folder' | 'parent';

/**
 * Refuses to begin work whose result could not be written. What is at the target stays as it is, and nothing is left beside it.
 *
 * @param action What is to be done, for example `write the report`.
 * @throws EnvironmentError `E_UNWRITABLE`, `E_DISK_FULL`
 */
export async function requireWritable(
  path: string,
  action: string,
  kind: TargetKind = 'file',
): Promise<void> {
  const target = resolve(path);
  // No name is that of the folder where one works.
  const named = path === '' ? target : path;
  await writing(named, action, async () => {
    if (kind === 'file' || kind === 'log') await requireFile(named, action);
    if (kind === 'log' && (await exists(target))) await (await open(target, 'a')).close();
    else await tryIn(kind === 'parent' ? target : dirname(target), basename(target));
  });
}

/** What is there, if anything, is a file. */
async function requireFile(path: string, action: string): Promise<void> {
  const status = await stat(path).catch(() => undefined);
  // A name that ends in a slash is one of a folder.
  const isFolder = status?.isDirectory() ?? path.endsWith('/');
  if (isFolder) {
    throw unwritable(path, action, { why: 'it is a folder', hint: 'Name a file in it.' });
  }
  if (status?.isFile() === false) {
    throw unwritable(path, action, {
      why: 'it is a device or a pipe, not a file',
      hint: 'Name a file on a disk.',
    });
  }
}

/** Makes a file and removes it: in a folder, or where that folder will be made. */
async function tryIn(wanted: string, name: string): Promise<void> {
  let folder = wanted;
  while (!(await exists(folder))) folder = dirname(folder);
  const trial = join(folder, `${name}.${randomBytes(4).toString('hex')}.tmp`);
  await (await open(trial, 'wx')).close();
  await rm(trial);
}

async function exists(path: string): Promise<boolean> {
  try {
    await lstat(path);
    return true;
  } catch (error) {
    // Below a file there is nothing either.
    if (errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR') return false;
    throw error;
  }
}
