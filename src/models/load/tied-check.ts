/** Tensors that a configuration ties, where the files hold both: two that differ are not what the configuration says. */
import { dirname } from 'node:path';

import { DataError } from '../../base/errors.js';
import { matchesAny } from '../../base/name-pattern.js';
import type { WeightSource } from '../../formats/layouts/inspect.js';
import { readDense, readSpan, type StoredTensor } from '../../formats/stored.js';
import { textName } from './assemble.js';

/** Bytes of each that are compared at a time. */
const PIECE = 16 * 2 ** 20;

export interface TiedCheck {
  /** What messages call the model. */
  readonly where: string;
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  /** Where the tensors come from; the first that holds one counts. */
  readonly sources: readonly Pick<WeightSource, 'path' | 'isAdapter' | 'config' | 'tensors'>[];
  /** Names that stand for another tensor, as `lm_head.weight` for the embeddings. */
  readonly tied: ReadonlyMap<string, string>;
  /** Names that may differ and are left out. */
  readonly allow: readonly string[];
  readonly signal?: AbortSignal | undefined;
}

/**
 * Readers do not agree on which of two different tensors counts: transformers 4 takes the embeddings for both, transformers 5
 * unties them. So neither is taken in silence. PEFT unties them where an adapter has one of the two alone: the other side stays as
 * it was beneath (unless `ensure_weight_tying` says otherwise).
 *
 * @throws DataError `E_TIED`
 */
export async function checkTied(check: TiedCheck): Promise<void> {
  const { where, tied, allow, signal } = check;
  for (const [name, target] of tied) {
    if (matchesAny(allow, name)) continue;
    const pair = pairOf(check, name, target);
    if (pair === undefined || (await sameTensor(...pair.tensors, signal))) continue;
    const { half } = pair;
    if (half === undefined) {
      throw new DataError(
        `${where} holds ${name} and ${target} with different values, and its configuration ties them.`,
        {
          code: 'E_TIED',
          hint: `Set tie_word_embeddings to false in its config.json, or leave the first one out (--allow ${name}).`,
        },
      );
    }
    throw new DataError(
      `${half.path} holds ${half.name} alone, and the configuration of the model beneath ties ${name} and ${target}: of the two one would change.`,
      {
        code: 'E_TIED',
        hint: 'Untie the model beneath (tie_word_embeddings false, with an lm_head of its own), or train the adapter again with ensure_weight_tying.',
      },
    );
  }
}

interface TiedPair {
  readonly tensors: readonly [StoredTensor, StoredTensor];
  /** The side that an adapter holds alone. */
  readonly half?: { readonly path: string; readonly name: string };
}

/** The tensors of both sides as PEFT would have them; undefined where there is one for both. */
function pairOf(
  { tensors, sources }: TiedCheck,
  name: string,
  target: string,
): TiedPair | undefined {
  const [twin, original] = [tensors.get(name), tensors.get(target)];
  const adapters = sources.filter(({ isAdapter }) => isAdapter);
  const heads = adapters.find((source) => inSource(source, name) !== undefined);
  const embeds = adapters.find((source) => inSource(source, target) !== undefined);
  const half = heads ?? embeds;
  if (half === undefined || (heads !== undefined && embeds !== undefined)) {
    if (twin === undefined || original === undefined) return undefined;
    // Embeddings that lie over a folder's own leave the folder's head behind.
    const isLeft = half === undefined && dirname(twin.file) !== dirname(original.file);
    return isLeft ? undefined : { tensors: [twin, original] };
  }
  if (heads === undefined && half.config?.['ensure_weight_tying'] === true) return undefined;
  const own = inSource(half, heads === undefined ? target : name)!;
  const whole = sources.filter(({ isAdapter }) => !isAdapter);
  const beneath = (each: string): StoredTensor | undefined =>
    whole.map((source) => inSource(source, each)).find((tensor) => tensor !== undefined);
  const other = heads === undefined ? (beneath(name) ?? beneath(target)) : beneath(target);
  if (other === undefined) return undefined;
  return { tensors: [own, other], half: { path: half.path, name: own.name } };
}

/** A source's tensor by the name in the model, which a decoder alone has of its own. */
function inSource(
  { tensors }: Pick<WeightSource, 'tensors'>,
  name: string,
): StoredTensor | undefined {
  return tensors.get(name) ?? [...tensors].find(([each]) => textName(each) === name)?.[1];
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
