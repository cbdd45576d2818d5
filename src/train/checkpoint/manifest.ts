/** `manifest.json`: every file of a folder with its size and SHA-256, so that a damaged one is found before it is used. */
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { join, relative, sep } from 'node:path';

import { DataError } from '../../base/errors.js';
import { onFirst, together, type Peers } from '../../parallel/peers.js';

export const MANIFEST = 'manifest.json';
/** Where a run stands: no other folder with a manifest has it. */
export const TRAINER_STATE = 'trainer.json';

/** Size and hash by path inside the folder, with `/` between folders. */
export type FileHashes = Record<string, { bytes: number; sha256: string }>;

/** Hashes all files below `folder` but the manifest, each on one of the ranks. */
export async function hashFolder(
  folder: string,
  peers: Peers,
  signal?: AbortSignal,
): Promise<FileHashes> {
  const files = await onFirst(peers, 'files to hash', async () => {
    const paths = await filesOf(folder);
    return Promise.all(paths.map(async (path) => [path, await sizeOf(folder, path)] as const));
  });
  const own = deal(new Map(files), peers.size)[peers.rank]!;
  const hashed = await together(peers, 'hashes', async () => {
    const hashes: FileHashes = {};
    for (const path of own) {
      signal?.throwIfAborted();
      hashes[path] = await hashFile(join(folder, path));
    }
    return hashes;
  });
  const all = Object.assign({}, ...hashed) as FileHashes;
  return Object.fromEntries(files.map(([path]) => [path, all[path]!]));
}

async function sizeOf(folder: string, path: string): Promise<number> {
  return (await stat(join(folder, path))).size;
}

/** Deals files out by their sizes: each to who has least, the largest first. */
function deal(sizes: ReadonlyMap<string, number>, ranks: number): string[][] {
  const dealt = Array.from({ length: ranks }, () => ({ bytes: 0, files: [] as string[] }));
  for (const [file, bytes] of [...sizes].sort(([, a], [, b]) => b - a)) {
    const least = dealt.reduce((a, b) => (b.bytes < a.bytes ? b : a));
    least.bytes += bytes;
    least.files.push(file);
  }
  return dealt.map(({ files }) => files);
}

export interface CheckOptions {
  /** Files of more bytes are known by their size alone. @default no limit */
  hashUpTo?: number | undefined;
  /** Whether there may be files of which the manifest does not know. @default false */
  surplus?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Compares the files below `folder` with what its manifest says, sizes first, then hashes.
 *
 * @throws DataError E_CHECKPOINT_BROKEN that names the first file that is missing, surplus or changed.
 */
export async function checkHashes(
  folder: string,
  expected: FileHashes,
  { hashUpTo = Infinity, surplus = false, signal }: CheckOptions = {},
): Promise<void> {
  const present = new Set(await filesOf(folder));
  for (const [path, { bytes }] of Object.entries(expected)) {
    if (!present.delete(path)) throw broken(folder, `${path} is missing`);
    const size = await sizeOf(folder, path);
    if (size !== bytes) throw broken(folder, `${path} has ${size} bytes, not ${bytes}`);
  }
  const [stranger] = present;
  if (stranger !== undefined && !surplus) throw broken(folder, `${stranger} does not belong to it`);
  for (const [path, { bytes, sha256 }] of Object.entries(expected)) {
    signal?.throwIfAborted();
    if (bytes > hashUpTo) continue;
    const found = await hashFile(join(folder, path));
    if (found.sha256 !== sha256) throw broken(folder, `${path} has changed since it was written`);
  }
}

export function broken(folder: string, what: string, cause?: unknown): DataError {
  return new DataError(`The checkpoint ${folder} is damaged: ${what}.`, {
    code: 'E_CHECKPOINT_BROKEN',
    hint: `Use an earlier checkpoint, and remove this one; if its files were changed on purpose, remove its ${MANIFEST}.`,
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
