/** Writing safetensors: tensor after tensor, in memory, or as a file that several writers fill. */
import { type FileHandle, open, rm } from 'node:fs/promises';

import { DataError, EnvironmentError } from '../../base/errors.js';
import { errorCode } from '../../base/system-error.js';
import {
  layOut,
  type LayoutOptions,
  type SafetensorsLayout,
  type Shaped,
  tensorBytes,
} from './layout.js';

/** A tensor to be written. */
export interface TensorSource extends Shaped {
  /** Its elements, dense, row-major and little-endian; asked for once, when their turn has come. */
  readonly bytes: () =>
    Uint8Array | Promise<Uint8Array> | AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

export interface WriteOptions extends LayoutOptions {
  signal?: AbortSignal | undefined;
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
  { signal, ...options }: WriteOptions = {},
): Promise<number> {
  const layout = layOut(path, tensors, options);
  const file = await openNew(path);
  try {
    await file.writeFile(layout.header);
    for (const tensor of layout.tensors) {
      let written = 0;
      for await (const piece of pieces(await tensor.bytes())) {
        signal?.throwIfAborted();
        await file.writeFile(piece);
        written += piece.length;
      }
      checkLength(path, tensor, written);
    }
    return layout.bytes;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

/** Makes a file of its full length with a header alone, whose tensors are to be written into their places. */
export async function createSafetensors({
  path,
  header,
  bytes,
}: SafetensorsLayout<Shaped>): Promise<void> {
  const file = await openNew(path);
  try {
    await file.writeFile(header);
    await file.truncate(bytes);
  } finally {
    await file.close();
  }
}

async function openNew(path: string): Promise<FileHandle> {
  try {
    return await open(path, 'wx');
  } catch (cause) {
    if (errorCode(cause) !== 'EEXIST') throw cause;
    throw new EnvironmentError(`${path} exists already.`, {
      code: 'E_EXISTS',
      hint: 'Choose another name, or remove the file first.',
      cause,
    });
  }
}

/** The same file in memory, for small ones. */
export function encodeSafetensors(
  tensors: readonly (Shaped & { readonly data: Uint8Array })[],
  options: LayoutOptions = {},
): Uint8Array {
  const { header, tensors: ordered } = layOut('safetensors', tensors, options);
  for (const tensor of ordered) checkLength('safetensors', tensor, tensor.data.length);
  return Buffer.concat([header, ...ordered.map(({ data }) => data)]);
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
