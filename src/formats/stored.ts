/**
 * A tensor as it lies in a file: type, shape, place. What both readers (safetensors and pickle) deliver and the writer
 * takes; nothing is read, copied or expanded before somebody asks for the bytes.
 */
import { DataError } from '../base/errors.js';
import { openSource } from './source.js';

/** Bytes of one element, by the type names of safetensors; `C128` exists in pickles only. */
const DTYPE_BYTES = {
  BOOL: 1,
  U8: 1,
  I8: 1,
  F8_E5M2: 1,
  F8_E4M3: 1,
  F8_E8M0: 1,
  F8_E4M3FNUZ: 1,
  F8_E5M2FNUZ: 1,
  I16: 2,
  U16: 2,
  F16: 2,
  BF16: 2,
  I32: 4,
  U32: 4,
  F32: 4,
  C64: 8,
  F64: 8,
  I64: 8,
  U64: 8,
  C128: 16,
} as const;

/** The name of an element type, as safetensors spells it. */
export type StoredDType = keyof typeof DTYPE_BYTES;

/** All names, in ascending order of alignment: the order in which safetensors ranks them. */
export const STORED_DTYPES = Object.keys(DTYPE_BYTES) as StoredDType[];

/** Whether `name` is the name of an element type. */
export function isStoredDType(name: string): name is StoredDType {
  return Object.hasOwn(DTYPE_BYTES, name);
}

/** Bytes of one element. */
export function dtypeBytes(dtype: StoredDType): number {
  return DTYPE_BYTES[dtype];
}

/** A tensor in a file. */
export interface StoredTensor {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
  /** Elements from one index to the next in each dimension, where that is not the dense row-major order. */
  readonly strides?: readonly number[];
  readonly file: string;
  /** Where the first element begins: bytes from the start of `data` if there is one, else of the file. */
  readonly offset: number;
  /** Bytes from the start of the first element to the end of the last; 0 without elements. */
  readonly bytes: number;
  /** Little-endian bytes of the whole storage, where the file does not hold them as such (deflated, big-endian). */
  readonly data?: Uint8Array;
  /** Tensors of one file with the same storage share memory (tied weights, views). */
  readonly storage?: string;
  /** Where it is a matrix in few bits, or to be one: type and shape are those that it stands for. */
  readonly form?: StoredForm;
}

/** Of a matrix in few bits (nn/quantised-form.ts). */
export type StoredForm = StoredNf4 | { readonly name: 'fp8' };

/** A matrix in 4-bit NormalFloat (nn/nf4.ts). */
export interface StoredNf4 {
  readonly name: 'nf4';
  /** Whether scales are bytes. */
  readonly doubleQuantised: boolean;
  /** The tensors that it is kept in; without them it is quantised when it is read. */
  readonly parts?: Nf4Tensors;
}

/** The tensors of a matrix in NF4, under bitsandbytes' names; `nested`, `nestedCode` and `offset` with double quantisation alone. */
export interface Nf4Tensors {
  readonly packed: StoredTensor;
  readonly absmax: StoredTensor;
  readonly code: StoredTensor;
  readonly state: StoredTensor;
  readonly nested?: StoredTensor;
  readonly nestedCode?: StoredTensor;
  /** Mean of the scales. */
  readonly offset?: number;
}

/** The tensors in which a matrix in NF4 is stored; none where it is quantised when it is read. */
export function nf4Parts({ form }: StoredTensor): Nf4Tensors | undefined {
  return form?.name === 'nf4' ? form.parts : undefined;
}

/** The tensors of which one is made in its file: itself, but for one that is kept in NF4. */
export function storedParts(tensor: StoredTensor): StoredTensor[] {
  const { packed, absmax, code, nested, nestedCode, state } = nf4Parts(tensor) ?? {};
  if (packed === undefined) return [tensor];
  return [packed, absmax, code, nested, nestedCode, state].filter((part) => part !== undefined);
}

/** Number of elements; at most 2^53 - 1, which the readers have checked. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, size) => product * size, 1);
}

/** The strides of a dense row-major tensor, in elements. */
export function denseStrides(shape: readonly number[]): number[] {
  const strides = new Array<number>(shape.length);
  let step = 1;
  for (let axis = shape.length - 1; axis >= 0; axis--) {
    strides[axis] = step;
    step *= Math.max(1, shape[axis]!);
  }
  return strides;
}

/** The bytes from the first element to the last, strides and all, as they lie in the file. */
export async function readSpan(tensor: StoredTensor): Promise<Uint8Array> {
  const { data, offset, bytes } = tensor;
  if (data !== undefined) return data.subarray(offset, offset + bytes);
  const source = await openSource(tensor.file);
  try {
    return await source.read(offset, bytes);
  } finally {
    await source.close();
  }
}

/**
 * The tensor's elements in dense row-major order.
 *
 * @param limit Refuses a view that would fill more bytes than this: a stride of 0 makes 2^40 elements out of one.
 */
export async function readDense(tensor: StoredTensor, limit: number): Promise<Uint8Array> {
  const size = dtypeBytes(tensor.dtype);
  const total = elementCount(tensor.shape) * size;
  if (total > limit) {
    throw new DataError(
      `${tensor.file}: "${tensor.name}" of shape [${tensor.shape.join(', ')}] fills ${total} bytes, over the limit of ${limit}.`,
      {
        code: 'E_TENSOR_TOO_LARGE',
        hint: 'Keep the view as it is stored, or raise the limit.',
      },
    );
  }
  const span = await readSpan(tensor);
  return tensor.strides === undefined ? span : gather(span, tensor.shape, tensor.strides, size);
}

function gather(
  span: Uint8Array,
  shape: readonly number[],
  strides: readonly number[],
  size: number,
): Uint8Array {
  const count = elementCount(shape);
  const dense = new Uint8Array(count * size);
  const index = new Array<number>(shape.length).fill(0);
  let from = 0;
  for (let element = 0; element < count; element++) {
    dense.set(span.subarray(from * size, (from + 1) * size), element * size);
    for (let axis = shape.length - 1; axis >= 0; axis--) {
      from += strides[axis]!;
      index[axis] = index[axis]! + 1;
      if (index[axis]! < shape[axis]!) break;
      from -= strides[axis]! * shape[axis]!;
      index[axis] = 0;
    }
  }
  return dense;
}
