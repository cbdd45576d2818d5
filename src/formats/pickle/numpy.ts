/**
 * The numpy objects that training loops leave in checkpoints: scalars and arrays of numbers, as `numpy.ndarray.__reduce__`
 * and the scalars' write them. Strings, dates, structures and Python objects inside arrays are refused.
 */
import { describe, Token, tupleItems, type Builder, type Item } from './tokens.js';
import { NumpyArray, NumpyScalar, type NumpyContent } from './values.js';

type Reader = (view: DataView, offset: number, little: boolean) => bigint | number | boolean;

interface ElementType {
  readonly name: string;
  readonly bytes: number;
  readonly read: Reader;
}

const big =
  (read: (view: DataView, offset: number, little: boolean) => number): Reader =>
  (view, offset, little) =>
    BigInt(read(view, offset, little));

const TYPES: ReadonlyMap<string, ElementType> = new Map([
  ['b1', { name: 'bool', bytes: 1, read: (view, at) => view.getUint8(at) !== 0 }],
  ['i1', { name: 'int8', bytes: 1, read: big((view, at) => view.getInt8(at)) }],
  ['u1', { name: 'uint8', bytes: 1, read: big((view, at) => view.getUint8(at)) }],
  ['i2', { name: 'int16', bytes: 2, read: big((view, at, little) => view.getInt16(at, little)) }],
  ['u2', { name: 'uint16', bytes: 2, read: big((view, at, little) => view.getUint16(at, little)) }],
  ['i4', { name: 'int32', bytes: 4, read: big((view, at, little) => view.getInt32(at, little)) }],
  ['u4', { name: 'uint32', bytes: 4, read: big((view, at, little) => view.getUint32(at, little)) }],
  ['i8', { name: 'int64', bytes: 8, read: (view, at, little) => view.getBigInt64(at, little) }],
  ['u8', { name: 'uint64', bytes: 8, read: (view, at, little) => view.getBigUint64(at, little) }],
  ['f2', { name: 'float16', bytes: 2, read: readHalf }],
  ['f4', { name: 'float32', bytes: 4, read: (view, at, little) => view.getFloat32(at, little) }],
  ['f8', { name: 'float64', bytes: 8, read: (view, at, little) => view.getFloat64(at, little) }],
]);

/** Half precision: 1 sign, 5 exponent, 10 fraction bits. */
function readHalf(view: DataView, offset: number, little: boolean): number {
  const bits = view.getUint16(offset, little);
  const exponent = (bits >> 10) & 31;
  const fraction = bits & 1023;
  const size =
    exponent === 31
      ? fraction === 0
        ? Infinity
        : NaN
      : exponent === 0
        ? fraction * 2 ** -24
        : (1024 + fraction) * 2 ** (exponent - 25);
  return bits >> 15 === 0 ? size : -size;
}

/** `numpy.dtype` while the pickle runs: BUILD tells its byte order. */
export class NumpyDType extends Token {
  little = true;

  constructor(readonly element: ElementType) {
    super('numpy.dtype');
  }

  /** State `(3, '<', None, None, None, -1, -1, 0)`: version, byte order, then what only structures have. */
  setState(state: Item, builder: Builder): void {
    const [, order, subtype, names, fields] = tupleItems(state) ?? [];
    const plain = subtype === null && names === null && fields === null;
    if (!plain || !(order === '<' || order === '>' || order === '|' || order === '=')) {
      throw refuse(builder, 'a numpy.dtype has a state that is no plain number type');
    }
    this.little = order !== '>';
  }
}

/** `numpy.dtype('f8', False, True)`. */
export const numpyDType = new Token('numpy.dtype', ([code], builder) => {
  const kind = typeof code === 'string' ? TYPES.get(code.replace(/^[<>|=]/, '')) : undefined;
  if (kind === undefined)
    throw refuse(builder, `numpy.dtype of ${describe(code)} holds no numbers`);
  const dtype = new NumpyDType(kind);
  dtype.little = !(code as string).startsWith('>');
  return dtype;
});

/** `numpy.core.multiarray.scalar(dtype, bytes)`. */
export const numpyScalar = new Token('numpy.scalar', (args, builder) => {
  const [dtype, bytes] = args;
  const sound = args.length === 2 && dtype instanceof NumpyDType && bytes instanceof Uint8Array;
  if (!sound || bytes.length !== dtype.element.bytes) {
    throw refuse(builder, 'a numpy scalar has arguments other than a dtype and its bytes');
  }
  const value = dtype.element.read(viewOf(bytes), 0, dtype.little);
  return new NumpyScalar(dtype.element.name, value);
});

/** `numpy.ndarray`, which is only ever an argument. */
export const numpyClass = new Token('numpy.ndarray');

/** `numpy.core.multiarray._reconstruct(numpy.ndarray, (0,), b'b')`: an array that BUILD fills. */
export const numpyReconstruct = new Token('numpy._reconstruct', ([type], builder) => {
  if (type !== numpyClass) throw refuse(builder, `an array of class ${describe(type)}`);
  return new NumpyArray();
});

/** `numpy.core.numeric._frombuffer(bytes, dtype, shape, order)` (protocol 5). */
export const numpyFromBuffer = new Token('numpy._frombuffer', (args, builder) => {
  const [bytes, dtype, shape, order] = args;
  if (order !== 'C' && order !== 'F') throw refuse(builder, `an array of order ${describe(order)}`);
  const array = new NumpyArray();
  array.content = readContent([1n, shape, dtype, order === 'F', bytes], builder);
  return array;
});

/** The state `(1, shape, dtype, isFortranOrder, bytes)` of an array. */
export function setArrayState(array: NumpyArray, state: Item, builder: Builder): void {
  array.content = readContent(tupleItems(state) ?? [], builder);
}

function readContent(state: readonly (Item | undefined)[], builder: Builder): NumpyContent {
  const [, shapeItem, dtype, isFortran, bytes] = state;
  const sizes = shapeItem === undefined ? undefined : tupleItems(shapeItem);
  const shape = sizes !== undefined && sizes.length <= 64 ? sizes.map(Number) : undefined;
  if (
    shape === undefined ||
    !sizes!.every((size) => typeof size === 'bigint' && size >= 0n && size <= 2n ** 48n) ||
    !(dtype instanceof NumpyDType && bytes instanceof Uint8Array) ||
    typeof isFortran !== 'boolean' ||
    shape.reduce((product, size) => product * size, dtype.element.bytes) !== bytes.length
  ) {
    throw refuse(builder, 'a numpy array has a state that does not describe its bytes');
  }
  const { element, little } = dtype;
  const values = {
    [Symbol.iterator]: () => elements(bytes, element, little, isFortran ? shape : []),
  };
  return { dtype: element.name, shape, values };
}

/** Row-major elements; `columns` is the shape of an array that is stored in column-major order. */
function* elements(
  bytes: Uint8Array,
  element: ElementType,
  little: boolean,
  columns: readonly number[],
): Generator<bigint | number | boolean> {
  const view = viewOf(bytes);
  const count = bytes.length / element.bytes;
  for (let index = 0; index < count; index++) {
    let place = columns.length < 2 ? index : 0;
    if (columns.length >= 2) {
      let rest = index;
      let step = count;
      for (const size of columns.toReversed()) {
        step /= size;
        place += (rest % size) * step;
        rest = Math.floor(rest / size);
      }
    }
    yield element.read(view, place * element.bytes, little);
  }
}

function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

function refuse(builder: Builder, what: string): Error {
  return builder.refuse('E_PICKLE_NUMPY', `${what}.`, 'Save it as a tensor or a plain number.');
}
