/** `manifest.json`: every file of a folder with its size and SHA-256, so that a damaged one is found before it is used. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';

import { DataError } from '../../base/errors.js';

export const MANIFEST = 'manifest.json';

/** Size and hash by path inside the folder, with `/` between folders. */
export type FileHashes = Record<string, { bytes: number; sha256: string }>;

/** Hashes all files below `folder` but the manifest. */
export async function hashFolder(folder: string, signal?: AbortSignal): Promise<FileHashes> {
  const hashes: FileHashes = {};
  for (const path of await filesOf(folder)) {
    signal?.throwIfAborted();
    hashes[path] = await hashFile(join(folder, path));
  }
  return hashes;
}

/**
 * Compares the files below `folder` with what its manifest says, sizes first, then hashes.
 *
 * @throws DataError E_CHECKPOINT_BROKEN that names the first file that is missing, surplus or changed.
 */
export async function checkHashes(
  folder: string,
  expected: FileHashes,
  signal?: AbortSignal,
): Promise<void> {
  const present = new Set(await filesOf(folder));
  for (const [path, { bytes }] of Object.entries(expected)) {
    if (!present.delete(path)) throw broken(folder, `${path} is missing`);
    const { size } = await stat(join(folder, path));
    if (size !== bytes) throw broken(folder, `${path} has ${size} bytes, not ${bytes}`);
  }
  const [surplus] = present;
  if (surplus !== undefined) throw broken(folder, `${surplus} does not belong to it`);
  for (const [path, { sha256 }] of Object.entries(expected)) {
    signal?.throwIfAborted();
    const found = await hashFile(join(folder, path));
    if (found.sha256 !== sha256) throw broken(folder, `${path} has changed since it was written`);
  }
}

export function broken(folder: string, what: string, cause?: unknown): DataError {
  return new DataError(`The checkpoint ${folder} is damaged: ${what}.`, {
    code: 'E_CHECKPOINT_BROKEN',
    hint: 'Go on from an earlier checkpoint, and remove this one.',
    cause,
  });
}

async function filesOf(folder: string): Promise<string[]> {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).replaceAll(sep, '/'))
    .filter((path) => path !== MANIFEST)
    .sort();
}

async function hashFile(path: string): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const piece of createReadStream(path, {
    highWaterMark: 1 << 20,
  }) as AsyncIterable<Buffer>) {
    hash.update(piece);
    bytes += piece.length;
  }
  return { bytes, sha256: hash.digest('hex') };
}
