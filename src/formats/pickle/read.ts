/** Reading `.pt`, `.pth` and `.bin` checkpoints: what the file really is, then its container, then its tensors. */
import { fileKind, HEAD_BYTES, refuseOtherKinds } from '../file-kind.js';
import { memorySource, openSource, type ByteSource } from '../source.js';
import { denseStrides, dtypeBytes, elementCount, type StoredTensor } from '../stored.js';
import { readTorchLegacy } from './torch-legacy.js';
import { readTorchZip } from './torch-zip.js';
import type { PickleTensor, PickleValue } from './values.js';

export interface ReadOptions {
  /** Compare the checksums of all storages, which reads the whole file. @default true */
  verify?: boolean;
  signal?: AbortSignal | undefined;
}

/**
 * Reads a checkpoint without running anything that it contains. Tensors are described, not loaded, except for storages
 * that the file does not hold as plain little-endian bytes.
 *
 * @throws DataError with a code that begins with E_PICKLE, E_ZIP, E_CHECKPOINT, E_TORCHSCRIPT or E_TRUNCATED when the file
 *   is hostile or broken, E_WRONG_KIND or E_NOT_CHECKPOINT when it is something else, E_FILE_MISSING or E_NOT_A_FILE.
 */
export async function readCheckpoint(
  path: string,
  options: ReadOptions = {},
): Promise<PickleValue> {
  const source = await openSource(path);
  try {
    return await readCheckpointFrom(source, options);
  } finally {
    await source.close();
  }
}

/** The same from bytes in memory; `path` is what messages and tensors call them. */
export async function readCheckpointBytes(path: string, bytes: Uint8Array): Promise<PickleValue> {
  return readCheckpointFrom(memorySource(path, bytes), {});
}

async function readCheckpointFrom(
  source: ByteSource,
  { verify = true, signal }: ReadOptions,
): Promise<PickleValue> {
  signal?.throwIfAborted();
  const head = await source.read(0, Math.min(source.size, HEAD_BYTES));
  const kind = fileKind(head, source.size);
  refuseOtherKinds(source.path, kind, { accept: 'zip', reader: 'a checkpoint of torch' });
  return kind === 'zip' ? readTorchZip(source, { verify, signal }) : readTorchLegacy(source);
}

/** The tensor as a description of bytes in the file, under the name that its owner gives it. */
export function storedTensor(tensor: PickleTensor, name: string, file: string): StoredTensor {
  const { dtype, shape, strides, storage } = tensor;
  const root = storage.view?.of ?? storage;
  const size = dtypeBytes(dtype);
  const within = (storage.view?.start ?? 0) + tensor.offset * size;
  const isEmpty = elementCount(shape) === 0;
  const span = shape.reduce((last, length, axis) => last + (length - 1) * strides[axis]!, 1);
  const dense = denseStrides(shape);
  const isDense =
    isEmpty || shape.every((length, axis) => length === 1 || strides[axis] === dense[axis]);
  const place = root.place!;
  return {
    name,
    dtype,
    shape,
    ...(isDense ? {} : { strides }),
    file,
    offset: 'data' in place ? within : place.offset + within,
    bytes: isEmpty ? 0 : span * size,
    ...('data' in place ? { data: place.data } : {}),
    storage: root.key,
  };
}
