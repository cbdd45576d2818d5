/** A safetensors file as tensors on a device, and back. */
import { readSafetensors } from '../../formats/safetensors/header.js';
import { type TensorSource, writeSafetensors } from '../../formats/safetensors/write.js';
import {
  type Device,
  type DType,
  dtypeBytes,
  noGrad,
  scope,
  type Tensor,
} from '../../torch/index.js';
import { placeTensors } from './place.js';
import { storedDType, torchDType } from './stored-dtype.js';

/**
 * Every tensor of a file by its name, in the type in which it is stored; they belong to the caller.
 *
 * @throws DataError `E_SAFETENSORS`, `E_STORED_DTYPE`
 */
export async function readTensorFile(
  path: string,
  device: Device = 'cpu',
): Promise<Map<string, Tensor>> {
  const { tensors } = await readSafetensors(path);
  const read = new Map<string, Tensor>();
  const placements = tensors.map((stored) => ({ stored, dtype: torchDType(stored) }));
  await placeTensors(placements, device, (tensor, i) => read.set(tensors[i]!.name, tensor));
  return read;
}

/** Writes a new file. The same tensors give the same bytes, whatever their order. */
export async function writeTensorFile(
  path: string,
  tensors: ReadonlyMap<string, Tensor>,
): Promise<void> {
  await writeSafetensors(
    path,
    [...tensors].map(([name, tensor]) => tensorSource(name, tensor)),
  );
}

/** A tensor as the writers of files take it: its bytes are fetched when their turn has come. */
export function tensorSource(name: string, tensor: Tensor): TensorSource {
  const { dtype, shape } = tensor;
  return { name, dtype: storedDType(dtype), shape, bytes: () => bytePieces(tensor) };
}

/** Bytes that are handed to a writer at a time. */
const PIECE = 32 * 2 ** 20;

export interface PieceOptions {
  /** Type in which they are given. @default that of the tensor */
  readonly dtype?: DType | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** The bytes of a dense tensor on any device, a piece at a time. */
export function* bytePieces(
  tensor: Tensor,
  { dtype = tensor.dtype, signal }: PieceOptions = {},
): IterableIterator<Uint8Array> {
  for (const take of tensorPieces(tensor, dtype)) {
    signal?.throwIfAborted();
    yield noGrad(() => scope(() => take().toBytes()));
  }
}

/** The pieces in which a tensor is written, made on its device when each is asked for. */
export function* tensorPieces(tensor: Tensor, dtype: DType): IterableIterator<() => Tensor> {
  const step = PIECE / dtypeBytes(tensor.dtype);
  for (let at = 0; at < tensor.numel; at += step) {
    const length = Math.min(step, tensor.numel - at);
    yield () => tensor.view([-1]).narrow(0, at, length).to(dtype);
  }
}
