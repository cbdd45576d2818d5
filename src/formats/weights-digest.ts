/**
 * A digest that tells two sets of weights apart, also of equal names and shapes, in about a second for 16 GB: of what the headers say
 * of each tensor, and of samples of its bytes. Small sets are read as a whole.
 */
import { createHash, type Hash } from 'node:crypto';

import { spansOf, WHOLE_BYTES } from '../base/sampled-bytes.js';
import { openSource, type ByteSource } from './source.js';
import type { StoredTensor } from './stored.js';

/** SHA-256 (hexadecimal) of names, types, shapes and samples, whatever the files are called and however they are divided. */
export async function weightsDigest(
  tensors: readonly StoredTensor[],
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<string> {
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const hash = createHash('sha256');
  const sorted = tensors.toSorted((a, b) => compare(a.name, b.name) || compare(a.file, b.file));
  const files = new Map<string, ByteSource>();
  try {
    for (const tensor of sorted) {
      signal?.throwIfAborted();
      hash.update(`${JSON.stringify([tensor.name, tensor.dtype, tensor.shape])}\n`);
      await addBytes(hash, tensor, total <= WHOLE_BYTES, files);
    }
  } finally {
    for (const file of files.values()) await file.close();
  }
  return hash.digest('hex');
}

async function addBytes(
  hash: Hash,
  { data, file, offset, bytes }: StoredTensor,
  isWhole: boolean,
  files: Map<string, ByteSource>,
): Promise<void> {
  for (const { start, length } of spansOf(bytes, isWhole)) {
    if (data !== undefined) {
      hash.update(data.subarray(offset + start, offset + start + length));
      continue;
    }
    let source = files.get(file);
    if (source === undefined) files.set(file, (source = await openSource(file)));
    hash.update(await source.read(offset + start, length));
  }
}

/** The same of any file. */
export async function fileDigest(
  path: string,
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<string> {
  const hash = createHash('sha256');
  const source = await openSource(path);
  try {
    hash.update(`${source.size}\n`);
    for (const { start, length } of spansOf(source.size, source.size <= WHOLE_BYTES)) {
      signal?.throwIfAborted();
      hash.update(await source.read(start, length));
    }
  } finally {
    await source.close();
  }
  return hash.digest('hex');
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
