/**
 * Writing safetensors: the same tensors give the same bytes, whatever their order, and the bytes are those of the
 * reference writer: tensors by descending alignment of their type, then by name; header padded to a multiple of 8.
 */
import { open, rm } from 'node:fs/promises';

import { DataError, EnvironmentError } from '../../base/errors.js';
import { errorCode } from '../../base/system-error.js';
import {
  dtypeBytes,
  elementCount,
  STORED_DTYPES,
  type StoredDType,
  type StoredTensor,
} from '../stored.js';

/** A tensor to be written. */
export interface TensorSource {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Its elements, dense, row-major and little-endian; asked for once, when their turn has come. */
  readonly bytes: () =>
    Uint8Array | Promise<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export interface WriteOptions {
  /** `__metadata__`, in this order; null for none. @default { format: 'pt' } */
  metadata?: Readonly<Record<string, string>> | null;
  signal?: AbortSignal | undefined;
}

/** What every reader of torch's weights expects to find. */
const TORCH = { format: 'pt' } as const;

type Shaped = Pick<TensorSource, 'name' | 'dtype' | 'shape'>;

/** Bytes of a dense tensor. */
export function tensorBytes({ dtype, shape }: Pick<StoredTensor, 'dtype' | 'shape'>): number {
  return elementCount(shape) * dtypeBytes(dtype);
}

/**
 * Writes a new file and returns its length in bytes. One tensor at a time is in memory. A file that cannot be finished is removed.
 *
 * @throws DataError E_TENSOR_NAMES, E_TENSOR_BYTES when a source gives another number of bytes than its shape asks for;
 *   EnvironmentError E_EXISTS; other errors of the file system are passed on
 */
export async function writeSafetensors(
  path: string,
  tensors: readonly TensorSource[],
  { metadata = TORCH, signal }: WriteOptions = {},
): Promise<number> {
  const ordered = inFileOrder(path, tensors);
  const header = encodeHeader(ordered, metadata);
  const file = await open(path, 'wx').catch((error: unknown) => {
    throw errorCode(error) === 'EEXIST' ? exists(path, error) : error;
  });
  try {
    await file.writeFile(header);
    let total = header.length;
    for (const tensor of ordered) {
      let written = 0;
      for await (const piece of pieces(await tensor.bytes())) {
        signal?.throwIfAborted();
        await file.writeFile(piece);
        written += piece.length;
      }
      checkLength(path, tensor, written);
      total += written;
    }
    return total;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

function exists(path: string, cause: unknown): EnvironmentError {
  return new EnvironmentError(`${path} exists already.`, {
    code: 'E_EXISTS',
    hint: 'Choose another name, or remove the file first.',
    cause,
  });
}

/** The same file in memory, for small ones. */
export function encodeSafetensors(
  tensors: readonly (Shaped & { readonly data: Uint8Array })[],
  { metadata = TORCH }: Pick<WriteOptions, 'metadata'> = {},
): Uint8Array {
  const ordered = inFileOrder('safetensors', tensors);
  for (const tensor of ordered) checkLength('safetensors', tensor, tensor.data.length);
  return Buffer.concat([encodeHeader(ordered, metadata), ...ordered.map(({ data }) => data)]);
}

/** Refuses names that occur twice or cannot be written, and types that safetensors lacks. */
export function checkNames(path: string, tensors: readonly Shaped[]): void {
  const seen = new Set<string>();
  for (const { name, dtype } of tensors) {
    let fault: string | undefined;
    if (seen.has(name)) fault = 'occurs twice';
    else if (name === '__metadata__' || /\p{Surrogate}/u.test(name)) fault = 'cannot be a name';
    else if (dtype === 'C128') fault = 'has the type C128, which safetensors lacks';
    if (fault !== undefined) {
      throw new DataError(`${path}: ${JSON.stringify(name.slice(0, 120))} ${fault}.`, {
        code: 'E_TENSOR_NAMES',
        hint: 'Give every tensor a name of its own and a type that safetensors knows.',
      });
    }
    seen.add(name);
  }
}

/** Largest type first keeps every tensor aligned; names break ties by their UTF-8 bytes. */
function inFileOrder<T extends Shaped>(path: string, tensors: readonly T[]): T[] {
  checkNames(path, tensors);
  const rank = new Map(STORED_DTYPES.map((dtype, index) => [dtype, index]));
  const byName = (a: T, b: T): number => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
  return tensors.toSorted((a, b) => rank.get(b.dtype)! - rank.get(a.dtype)! || byName(a, b));
}

function encodeHeader(
  ordered: readonly Shaped[],
  metadata: NonNullable<WriteOptions['metadata']> | null,
): Uint8Array {
  const entries: string[] = [];
  if (metadata !== null) entries.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let at = 0;
  for (const { name, dtype, shape } of ordered) {
    const end = at + tensorBytes({ dtype, shape });
    const value = { dtype, shape, data_offsets: [at, end] };
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
    at = end;
  }
  const json = Buffer.from(`{${entries.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = Buffer.alloc(8 + padded, ' ');
  header.writeBigUInt64LE(BigInt(padded));
  json.copy(header, 8);
  return header;
}

async function* pieces(
  content: Uint8Array | AsyncIterable<Uint8Array> | Iterable<Uint8Array>,
): AsyncGenerator<Uint8Array> {
  if (content instanceof Uint8Array) yield content;
  else yield* content;
}

function checkLength(path: string, tensor: Shaped, length: number): void {
  const expected = tensorBytes(tensor);
  if (length === expected) return;
  throw new DataError(
    `${path}: ${JSON.stringify(tensor.name)} of shape [${tensor.shape.join(', ')}] and type ${tensor.dtype} takes ${expected} bytes and was given ${length}.`,
    { code: 'E_TENSOR_BYTES', hint: 'Give the bytes of the whole tensor, dense and row-major.' },
  );
}
