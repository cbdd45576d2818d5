/** Files of the set-up: hashes, listings, whole-or-absent writing, free space. */
import { createHash } from 'node:crypto';
import {
  createReadStream,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statfsSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, sep } from 'node:path';
import { pipeline } from 'node:stream/promises';

/**
 * The files below `folder` whose path (from `folder`, with slashes) passes `accept`, sorted.
 *
 * @param {string} folder
 * @param {(path: string) => boolean} [accept]
 * @returns {string[]}
 */
export function list(folder, accept = () => true) {
  if (!exists(folder)) return [];
  return readdirSync(folder, { withFileTypes: true, recursive: true })
    .filter((entry) => entry.isFile())
    .map((entry) => relative(folder, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .filter(accept)
    .sort();
}

/**
 * SHA-256 over the names and contents of files and over further words, 16 hexadecimal digits of it.
 *
 * @param {string} folder
 * @param {string[]} files Paths from `folder`.
 * @param {string[]} words
 */
export function hashFiles(folder, files, words = []) {
  const hash = createHash('sha256');
  for (const word of words) hash.update(`${word}\0`);
  for (const file of files) {
    const content = readFileSync(join(folder, file));
    hash.update(`${file}\0${content.length}\0`).update(content);
  }
  return hash.digest('hex').slice(0, 16);
}

/**
 * SHA-256 of one file, however large, in hexadecimal.
 *
 * @param {string} path
 */
export async function hashFile(path) {
  const hash = createHash('sha256');
  await pipeline(createReadStream(path, { highWaterMark: 1 << 20 }), hash);
  return hash.digest('hex');
}

/** @param {string} path */
export function exists(path) {
  return statSync(path, { throwIfNoEntry: false }) !== undefined;
}

/**
 * The file's text, or undefined if there is no such file.
 *
 * @param {string} path
 */
export function readIfThere(path) {
  return exists(path) ? readFileSync(path, 'utf8') : undefined;
}

/**
 * A path as it stands in what belongs to the project: relative if it lies within, so that it holds wherever the project is moved
 * or copied to.
 *
 * @param {string} root The project's folder.
 * @param {string} path Absolute.
 */
export function projectPath(root, path) {
  const within = relative(root, path);
  return within === '..' || within.startsWith(`..${sep}`) ? path : within;
}

/**
 * Writes a file so that it is either the old one or the whole new one.
 *
 * @param {string} path
 * @param {string} text
 */
export function writeWhole(path, text) {
  mkdirSync(dirname(path), { recursive: true });
  const unfinished = `${path}.new-${process.pid}`;
  writeFileSync(unfinished, text);
  renameSync(unfinished, path);
}

const UNFINISHED = '.new-';

/**
 * Runs `work` in a temporary folder below `parent`, which is removed after. What an interrupted set-up left is removed
 * first. Call it under the lock.
 *
 * @param {string} parent
 * @param {(folder: string) => Promise<void>} work
 */
export async function inTemporary(parent, work) {
  mkdirSync(parent, { recursive: true });
  for (const name of readdirSync(parent)) {
    if (name.startsWith(UNFINISHED)) rmSync(join(parent, name), { recursive: true, force: true });
  }
  const folder = join(parent, `${UNFINISHED}${process.pid}`);
  mkdirSync(folder);
  try {
    await work(folder);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/**
 * Makes a folder so that it is either absent (or the old one) or whole: `fill` works in a temporary neighbour.
 *
 * @param {string} path
 * @param {(folder: string) => Promise<void>} fill
 */
export async function makeWhole(path, fill) {
  await inTemporary(dirname(path), async (folder) => {
    await fill(folder);
    rmSync(path, { recursive: true, force: true });
    renameSync(folder, path);
  });
}

/**
 * Bytes that may still be written on the disk of `folder`.
 *
 * @param {string} folder
 */
export function freeBytes(folder) {
  const { bavail, bsize } = statfsSync(folder);
  return bavail * bsize;
}

/**
 * `530712279` as `531 MB`, `3300000000` as `3.3 GB`; powers of 1000, as disks and downloads are sold.
 *
 * @param {number} bytes
 */
export function size(bytes) {
  if (bytes >= 1e9) return `${(bytes / 1e9).toFixed(1)} GB`;
  return bytes >= 1e6 ? `${Math.round(bytes / 1e6)} MB` : `${Math.round(bytes / 1e3)} kB`;
}
