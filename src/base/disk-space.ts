/** Free space on the disk of a folder, asked before much is written. */
import { statfs } from 'node:fs/promises';
import { dirname, resolve } from 'node:path';

import { EnvironmentError } from './errors.js';
import { formatBytes } from './format.js';
import { errorCode } from './system-error.js';

/** Bytes that this user may still write on the disk that holds `path`, which need not exist yet. */
export async function freeBytes(path: string): Promise<number> {
  for (let folder = resolve(path); ; folder = dirname(folder)) {
    try {
      const { bavail, bsize } = await statfs(folder);
      return bavail * bsize;
    } catch (error) {
      const missing = errorCode(error) === 'ENOENT' || errorCode(error) === 'ENOTDIR';
      if (!missing || folder === dirname(folder)) throw error;
    }
  }
}

/**
 * Refuses to begin what cannot end well: E_DISK_FULL unless `bytes` are free at `path`.
 *
 * @param purpose What the space is for, for example `two checkpoints`.
 */
export async function requireFree(path: string, bytes: number, purpose: string): Promise<void> {
  const free = await freeBytes(path);
  if (free >= bytes) return;
  throw new EnvironmentError(
    `Too little disk space at ${path}: ${formatBytes(bytes)} are needed for ${purpose}, ${formatBytes(free)} are free.`,
    {
      code: 'E_DISK_FULL',
      hint: `Free at least ${formatBytes(bytes - free)}, or choose a folder on another disk.`,
    },
  );
}
