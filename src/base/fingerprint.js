/**
 * Whether a libtorch is still the one that the addon was built for. Plain JavaScript: the set-up, which runs before anything
 * is compiled, records the fingerprint, and native-path.ts compares it.
 */
import { createHash } from 'node:crypto';
import { closeSync, openSync, readSync, statSync } from 'node:fs';
import { join } from 'node:path';

/** Holds the tables of sections and symbols, whose sizes and addresses differ between any two builds. */
const HEAD_BYTES = 1 << 20;

/**
 * The file name of a shared library on this platform.
 *
 * @param {string} name For example `torch_cpu`.
 */
export function libraryFile(name) {
  return `lib${name}.${process.platform === 'darwin' ? 'dylib' : 'so'}`;
}

/**
 * Size of libtorch's main library and SHA-256 of its first mebibyte (16 hexadecimal digits): unlike its time, a plain copy keeps
 * them.
 *
 * @param {string} folder Has include/ and lib/.
 * @returns {string | undefined} Undefined if the library is gone.
 */
export function fingerprint(folder) {
  const path = join(folder, 'lib', libraryFile('torch_cpu'));
  const size = statSync(path, { throwIfNoEntry: false })?.size;
  if (size === undefined) return undefined;
  const head = Buffer.alloc(Math.min(size, HEAD_BYTES));
  const file = openSync(path, 'r');
  try {
    const read = readSync(file, head, 0, head.length, 0);
    const digest = createHash('sha256').update(head.subarray(0, read)).digest('hex');
    return `${size}-${digest.slice(0, 16)}`;
  } finally {
    closeSync(file);
  }
}
