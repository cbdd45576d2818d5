/** Tensors that a configuration ties, where the files hold both: two that differ are not what the configuration says. */
import { dirname } from 'node:path';

import { DataError } from '../../base/errors.js';
import { matchesAny } from '../../base/name-pattern.js';
import { readDense, readSpan, type StoredTensor } from '../../formats/stored.js';

/** Bytes of each that are compared at a time. */
const PIECE = 16 * 2 ** 20;

export interface TiedCheck {
  /** What messages call the model. */
  readonly where: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Names that stand for another tensor, as `lm_head.weight` for the embeddings. */
  readonly tied: ReadonlyMap<string, string>;
  /** Names that may differ and are left out. */
  readonly allow: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/**
 * Readers do not agree on which of two different tensors counts: transformers 4 takes the embeddings for both, transformers 5
 * unties them. So neither is taken in silence.
 *
 * @throws DataError `E_TIED`
 */
export async function checkTied(check: TiedCheck): Promise<void> {
  const { where, tensors, tied, allow, signal } = check;
  for (const [name, target] of tied) {
    const [twin, original] = [tensors.get(name), tensors.get(target)];
    if (twin === undefined || original === undefined || matchesAny(allow, name)) continue;
    // Embeddings that an adapter puts in place of a folder's own leave the folder's head behind.
    if (dirname(twin.file) !== dirname(original.file)) continue;
    if (await sameTensor(twin, original, signal)) continue;
    throw new DataError(
      `${where} holds ${name} and ${target} with different values, and its configuration ties them.`,
      {
        code: 'E_TIED',
        hint: `Set tie_word_embeddings to false in its config.json, or leave the first one out (--allow ${name}).`,
      },
    );
  }
}

async function sameTensor(
  a: StoredTensor,
  b: StoredTensor,
  signal: AbortSignal | undefined,
): Promise<boolean> {
  if (a.dtype !== b.dtype || String(a.shape) !== String(b.shape)) return false;
  if (a.file === b.file && a.data === b.data && a.offset === b.offset) return true;
  if (a.strides !== undefined || b.strides !== undefined) {
    const limit = Number.MAX_SAFE_INTEGER;
    return Buffer.from(await readDense(a, limit)).equals(await readDense(b, limit));
  }
  for (let at = 0; at < a.bytes; at += PIECE) {
    signal?.throwIfAborted();
    const piece = (whole: StoredTensor): Promise<Uint8Array> =>
      readSpan({ ...whole, offset: whole.offset + at, bytes: Math.min(PIECE, a.bytes - at) });
    const [one, other] = await Promise.all([piece(a), piece(b)]);
    if (!Buffer.from(one.buffer, one.byteOffset, one.byteLength).equals(other)) return false;
  }
  return true;
}
