/**
 * A digest that tells two sets of weights apart, also of equal names and shapes, in about a second for 16 GB: of what the headers say
 * of each tensor, and of samples of its bytes. Small sets are read as a whole.
 */
import { createHash, type Hash } from 'node:crypto';

import { openSource, type ByteSource } from './source.js';
import type { StoredTensor } from './stored.js';

/** Up to so many bytes nothing is left out. */
const WHOLE = 64 * 2 ** 20;
/** Bytes of a sample, and from the beginning of one to that of the next. */
const SAMPLE = 4096;
const STEP = 8 * 2 ** 20;

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
      await addBytes(hash, tensor, total <= WHOLE, files);
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
  for (const { start, length } of isWhole ? whole(bytes) : samples(bytes)) {
    if (data !== undefined) {
      hash.update(data.subarray(offset + start, offset + start + length));
      continue;
    }
    let source = files.get(file);
    if (source === undefined) files.set(file, (source = await openSource(file)));
    hash.update(await source.read(offset + start, length));
  }
}

interface Span {
  readonly start: number;
  readonly length: number;
}

function* whole(bytes: number): Generator<Span> {
  for (let start = 0; start < bytes; start += STEP) {
    yield { start, length: Math.min(STEP, bytes - start) };
  }
}

/** The beginning, the end, and what lies regularly between them. */
function* samples(bytes: number): Generator<Span> {
  for (let start = 0; start < bytes; start += STEP) {
    yield { start, length: Math.min(SAMPLE, bytes - start) };
  }
  const start = Math.max(0, bytes - SAMPLE);
  if (start > 0) yield { start, length: bytes - start };
}

function compare(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
