/** Tensors from JavaScript values: copied from numbers and arrays, or sharing the memory of a TypedArray. */

import { markAsUntransferable } from 'node:worker_threads';
import { UsageError } from '../base/errors.js';
import { dtypeBytes, type DType } from './dtype.js';
import { B, dtypeArgument } from './door.js';
import { expectDone } from './errors.js';
import { putGeometry } from './geometry.js';
import { sendTo } from './host-memory.js';
import { native, type Device } from './native.js';
import { Tensor, type ElementArray, type NestedNumbers } from './tensor.js';

const DTYPE_OF: readonly [new (elements: ArrayLike<never>) => ElementArray, DType][] = [
  [Float32Array, 'float32'],
  [Float64Array, 'float64'],
  [Int8Array, 'int8'],
  [Uint8Array, 'uint8'],
  [Int16Array, 'int16'],
  [Uint16Array, 'uint16'],
  [Int32Array, 'int32'],
  [Uint32Array, 'uint32'],
  [BigInt64Array, 'int64'],
  [BigUint64Array, 'uint64'],
];

function kindOfArray(array: ElementArray): (typeof DTYPE_OF)[number] {
  const found = DTYPE_OF.find(([Ctor]) => array instanceof Ctor);
  if (found === undefined) {
    throw new UsageError('expected a TypedArray', {
      code: 'E_ARGUMENT',
      hint: 'Use tensor() for plain arrays.',
    });
  }
  return found;
}

/**
 * A CPU tensor on the memory of a TypedArray or Buffer, without copying: writes are seen on both sides.
 *
 * The array's buffer is kept alive and can no longer be moved to another thread by `postMessage`; it must not be detached by
 * other means (`ArrayBuffer.prototype.transfer`).
 * @param shape @default one dimension
 * @param dtype how to read the bytes. @default the array's own
 */
export function fromTypedArray(
  array: ElementArray,
  shape: readonly number[] = [array.length],
  dtype: DType = kindOfArray(array)[1],
): Tensor {
  const code = dtypeArgument(dtype);
  const { buffer, byteOffset, byteLength } = array;
  if (!(buffer instanceof ArrayBuffer) || ('resizable' in buffer && buffer.resizable === true)) {
    throw new UsageError('fromTypedArray(): the memory is shared between threads or resizable', {
      code: 'E_ARGUMENT',
      hint: 'Copy it with slice() first.',
    });
  }
  putGeometry(shape);
  expectDone(native.fromBuffer(buffer, byteOffset, byteLength, code), 'fromTypedArray()');
  markAsUntransferable(buffer);
  return new Tensor(B[0]!);
}

function shapeOf(values: NestedNumbers | readonly boolean[] | boolean): number[] {
  const shape: number[] = [];
  let level: unknown = values;
  while (Array.isArray(level)) {
    shape.push(level.length);
    level = level[0];
  }
  return shape;
}

function fill(level: unknown, shape: readonly number[], dim: number, out: number[]): void {
  if (dim === shape.length) {
    if (typeof level !== 'number' && typeof level !== 'boolean') raggedness(shape);
    out.push(Number(level));
    return;
  }
  if (!Array.isArray(level) || level.length !== shape[dim]) raggedness(shape);
  for (const element of level as unknown[]) fill(element, shape, dim + 1, out);
}

function raggedness(shape: readonly number[]): never {
  throw new UsageError(`tensor(): the nested arrays do not form the shape [${shape.join(', ')}]`, {
    code: 'E_SHAPE',
    hint: 'Give every row of a dimension the same length, and numbers alone at the bottom.',
  });
}

export interface TensorOptions {
  /** @default float32 for plain arrays, the array's own for TypedArrays */
  dtype?: DType;
  /** @default 'cpu' */
  device?: Device;
}

/** A tensor with a copy of the given numbers. On a GPU the copy is queued, and the host does not wait for it. */
export function tensor(
  values: NestedNumbers | readonly number[] | ElementArray | readonly boolean[] | boolean,
  { dtype, device = 'cpu' }: TensorOptions = {},
): Tensor {
  let made: Tensor;
  if (ArrayBuffer.isView(values)) {
    const [Ctor] = kindOfArray(values);
    made = fromTypedArray(new Ctor(values as unknown as ArrayLike<never>));
  } else {
    const shape = shapeOf(values as NestedNumbers);
    const flat: number[] = [];
    fill(values, shape, 0, flat);
    made = fromTypedArray(Float64Array.from(flat), shape);
    dtype ??= typeof values === 'boolean' ? 'bool' : 'float32';
  }
  const converted = replacing(made, (each) => each.to({ dtype: dtype ?? each.dtype }));
  return replacing(converted, (each) => sendTo(each, device));
}

/** What is made of a tensor, which goes unless it is the same one. */
function replacing(tensor: Tensor, make: (tensor: Tensor) => Tensor): Tensor {
  let made: Tensor | undefined;
  try {
    made = make(tensor);
    return made;
  } finally {
    if (made !== tensor) tensor.dispose();
  }
}

/** A CPU tensor of any dtype from its raw bytes, copied. */
export function fromBytes(bytes: Uint8Array, shape: readonly number[], dtype: DType): Tensor {
  const elements = shape.reduce((product, size) => product * size, 1);
  if (bytes.byteLength !== elements * dtypeBytes(dtype)) {
    throw new UsageError(
      `fromBytes(): ${bytes.byteLength} bytes for ${elements} elements of ${dtype} (${dtypeBytes(dtype)} bytes each)`,
      { code: 'E_SHAPE', hint: 'Check the shape and the dtype.' },
    );
  }
  return fromTypedArray(new Uint8Array(bytes), shape, dtype);
}
