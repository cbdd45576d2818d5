/**
 * `Tensor`: a handle to a libtorch tensor, with the operators of `table.ts` as methods.
 *
 * Positional arguments are those of PyTorch, in its order; keyword-only ones go into one trailing object:
 * `x.add(y, { alpha: 2 })`. A tensor belongs to the scope it was made in (`scope.ts`).
 */

import { inspect } from 'node:util';
import { UsageError } from '../base/errors.js';
import { dtypeBytes, dtypeCode, dtypeName, isFloating, type DType } from './dtype.js';
import { B, connect } from './door.js';
import { expectDone, expectValue, ThreadError } from './errors.js';
import { native, type Device, type NativeFailure } from './native.js';
import { formatTensor } from './format.js';
import { TensorOperators } from './operators.generated.js';
import { currentScope, scope, type Scope } from './scope.js';
import { describeSite, disposedHandle, forgetSite, recordSite } from './trace.js';

/** TypedArrays that hold the elements of a tensor as they are. */
export type ElementArray =
  | Float32Array
  | Float64Array
  | Int8Array
  | Uint8Array
  | Int16Array
  | Uint16Array
  | Int32Array
  | Uint32Array
  | BigInt64Array
  | BigUint64Array;

/** Nested arrays of numbers. */
export type NestedNumbers = number | NestedNumbers[];

interface Metadata {
  readonly dtype: DType;
  readonly device: Device;
  readonly shape: readonly number[];
}

const DEVICE_TYPES: Readonly<Record<number, string>> = { 0: 'cpu', 1: 'cuda', 14: 'meta' };

interface ElementArrayConstructor {
  new (length: number): ElementArray;
  new (buffer: ArrayBufferLike, byteOffset: number, length: number): ElementArray;
}

const ARRAYS: Partial<Record<DType, ElementArrayConstructor>> = {
  float32: Float32Array,
  float64: Float64Array,
  int8: Int8Array,
  uint8: Uint8Array,
  int16: Int16Array,
  int32: Int32Array,
  int64: BigInt64Array,
  uint16: Uint16Array,
  uint32: Uint32Array,
  uint64: BigUint64Array,
  bool: Uint8Array,
};

/** Values that printing shows. */
const SHOWN = 6;

/** Elements up to which reading goes through the shared buffer. */
const SMALL = 1024;

/** Frees tensors that nothing reaches any more and that no scope owned: the last resort, never the plan. */
const backstop = new FinalizationRegistry<number>((handle) => {
  forgetSite(handle);
  B[0] = handle;
  native.release(1);
});

/**
 * Tensors outside of all scopes that are not registered there yet. Most are disposed at once, and registering costs as much as a
 * small operator; finalizers cannot run before the current task has ended anyway.
 */
const unregistered: Tensor[] = [];
const UNREGISTERED_LIMIT = 1024;
let registering = false;

function registerAll(): void {
  registering = false;
  for (const tensor of unregistered) backstop.register(tensor, tensor.handle, tensor);
  unregistered.length = 0;
}

// The addon's function itself: looking it up in the exports costs a tenth of a short call.
const nativeRelease = native.release;

/**
 * Every tensor holds this, so that copying one with `structuredClone` or `postMessage` throws a typed error: a copy would be a
 * bare number in the other thread.
 */
const UNCLONEABLE: object = Object.defineProperty({}, 'tensor', {
  enumerable: true,
  get() {
    throw new ThreadError('a tensor cannot be cloned or sent to another thread', {
      code: 'E_THREAD',
      hint: 'Send the buffer of its toTypedArray() or toBytes() and make a tensor of it there.',
    });
  },
});

export class Tensor extends TensorOperators {
  /** Where libtorch keeps it: generation and slot; negative once disposed. */
  handle: number;
  /** The scope that will free it; `null` if it is owned by whoever holds it. */
  scope: Scope | null = null;
  /** Place in the scope's list. */
  place = 0;
  private metadata: Metadata | null = null;
  protected readonly uncloneable = UNCLONEABLE;

  /** Wraps a handle that the native side has just given out. */
  constructor(handle: number) {
    super();
    this.handle = handle;
    const scope = currentScope();
    if (scope === null) this.own();
    else scope.add(this);
    recordSite(this);
  }

  // --- facts --------------------------------------------------------------------------------------------------------------

  private facts(): Metadata {
    if (this.metadata !== null) return this.metadata;
    this.readMetadata();
    const dtype = dtypeName(B[0]!);
    const type = DEVICE_TYPES[B[1]!];
    if (dtype === undefined || type === undefined) {
      throw new UsageError(`a tensor of dtype ${B[0]!} on device type ${B[1]!} is not used here`, {
        code: 'E_DTYPE',
        hint: 'Convert it with to() before reading it.',
      });
    }
    const device = (type === 'cuda' ? `cuda:${Math.max(0, B[2]!)}` : type) as Device;
    this.metadata = { dtype, device, shape: Array.from(B.subarray(10, 10 + B[9]!)) };
    return this.metadata;
  }

  private readMetadata(): void {
    const failure = native.metadata(this.handle);
    if (failure !== undefined) {
      const note = describeSite(this.handle);
      expectDone(
        { ...failure, message: `${failure.message}${note === undefined ? '' : ` ${note}`}` },
        'tensor',
      );
    }
  }

  /** Length of each dimension. */
  get shape(): readonly number[] {
    return this.facts().shape;
  }

  get dtype(): DType {
    return this.facts().dtype;
  }

  get device(): Device {
    return this.facts().device;
  }

  /** Number of dimensions. */
  get ndim(): number {
    return this.facts().shape.length;
  }

  /** Number of elements. */
  get numel(): number {
    return this.facts().shape.reduce((product, size) => product * size, 1);
  }

  /** Bytes of the elements (not of the storage beneath). */
  get bytes(): number {
    return this.numel * dtypeBytes(this.dtype);
  }

  /** Length of a dimension; negative ones count from the end. */
  size(dim: number): number {
    const { shape } = this.facts();
    const size = shape[dim < 0 ? dim + shape.length : dim];
    if (size === undefined) {
      throw new UsageError(`size(): dimension ${dim} of a tensor with ${shape.length} dimensions`, {
        code: 'E_SHAPE',
        hint: 'Use a dimension from -ndim to ndim - 1.',
      });
    }
    return size;
  }

  get requiresGrad(): boolean {
    this.readMetadata();
    return B[3] === 1;
  }

  /** Whether no recorded operator made it. */
  get isLeaf(): boolean {
    this.readMetadata();
    return B[4] === 1;
  }

  /** Whether it is dense in memory. */
  get isContiguous(): boolean {
    this.readMetadata();
    return B[5] === 1;
  }

  /** How often it was written in place, as autograd counts; -1 for inference tensors. */
  get version(): number {
    this.readMetadata();
    return B[6]!;
  }

  /** Bytes of the storage beneath. */
  get storageBytes(): number {
    this.readMetadata();
    return B[7]!;
  }

  /** First element within the storage. */
  get storageOffset(): number {
    this.readMetadata();
    return B[8]!;
  }

  /** Elements from one index to the next, per dimension. */
  get strides(): number[] {
    this.readMetadata();
    const rank = B[9]!;
    return Array.from(B.subarray(10 + rank, 10 + 2 * rank));
  }

  get isDisposed(): boolean {
    return this.handle <= 0;
  }

  // --- autograd, placement, storage ---------------------------------------------------------------------------------------

  /** Whether autograd is to compute a gradient for it. @default true */
  requiresGrad_(value = true): this {
    expectDone(native.setRequiresGrad(this.handle, value), 'requiresGrad_()');
    return this;
  }

  /**
   * The same values as another dtype or on another device; itself where nothing changes.
   *
   * `nonBlocking` lets a copy from page-locked memory overlap with later work.
   */
  to(
    target: DType | Device | { dtype?: DType; device?: Device },
    { nonBlocking = false }: { nonBlocking?: boolean } = {},
  ): Tensor {
    const wanted =
      typeof target === 'object'
        ? target
        : Number.isNaN(dtypeCode(target as DType))
          ? { device: target as Device }
          : { dtype: target as DType };
    const { dtype, device } = this.facts();
    const newDtype = wanted.dtype !== undefined && wanted.dtype !== dtype;
    const wantedDevice = wanted.device === 'cuda' ? 'cuda:0' : wanted.device;
    const newDevice = wantedDevice !== undefined && wantedDevice !== device;
    if (!newDtype && !newDevice) return this;
    return this._toCopy({
      ...(newDtype ? { dtype: wanted.dtype! } : {}),
      ...(newDevice ? { device: wantedDevice } : {}),
      nonBlocking,
    });
  }

  /** A number that tensors on one storage share. */
  storageId(): number {
    return expectValue(native.storage(this.handle), 'storageId()');
  }

  /**
   * Frees the storage's memory (0 bytes) or allocates it again, in place: every tensor and graph on it sees the change and
   * autograd's version counter does not move. The contents after growing are undefined.
   *
   * @throws OperatorError `E_STORAGE` for a storage that libtorch did not allocate; also from every operator that would read or
   *   write freed memory.
   */
  resizeStorage(bytes: number): this {
    if (!Number.isSafeInteger(bytes) || bytes < 0) {
      throw new UsageError(`resizeStorage(): ${bytes} is no number of bytes`, {
        code: 'E_ARGUMENT',
        hint: 'Give 0 to free the memory, the former storageBytes to allocate it again.',
      });
    }
    expectDone(native.resizeStorage(this.handle, bytes), 'resizeStorage()');
    return this;
  }

  // --- reading ------------------------------------------------------------------------------------------------------------

  /** The only element as a number. @throws UsageError `E_UNSAFE_INTEGER` if it is an integer beyond 2^53. */
  item(): number {
    expectDone(native.item(this.handle), 'item()');
    return B[0]!;
  }

  /** All elements in row-major order; bfloat16, float16 and fp8 as float32, bool as 0 and 1. */
  toTypedArray(): ElementArray {
    const { dtype } = this.facts();
    const Ctor = ARRAYS[dtype];
    if (Ctor === undefined) {
      const wide = this.to('float32');
      const array = wide.toTypedArray();
      wide.dispose();
      return array;
    }
    const { numel } = this;
    if (numel <= SMALL) {
      // By way of the shared buffer: an array so small lies in V8's own heap as long as nobody asks for its buffer.
      const failure = native.read(this.handle, B.buffer, 0, numel * dtypeBytes(dtype));
      if (failure !== undefined) expectDone(failure, 'toTypedArray()');
      return new Ctor(B.buffer, 0, numel).slice();
    }
    const array = new Ctor(numel);
    expectDone(
      native.read(this.handle, array.buffer, array.byteOffset, array.byteLength),
      'toTypedArray()',
    );
    return array;
  }

  /** The raw bytes of all elements in row-major order. */
  toBytes(): Uint8Array {
    const bytes = new Uint8Array(this.bytes);
    expectDone(native.read(this.handle, bytes.buffer, 0, bytes.byteLength), 'toBytes()');
    return bytes;
  }

  /** Nested arrays of numbers, like `tolist` in PyTorch; integers beyond 2^53 lose digits. */
  toArray(): NestedNumbers {
    const flat = this.toTypedArray();
    const { shape } = this.facts();
    const build = (dim: number, start: number, span: number): NestedNumbers => {
      if (dim === shape.length) return Number(flat[start]);
      const list: NestedNumbers[] = [];
      const step = span / shape[dim]!;
      for (let i = 0; i < shape[dim]!; i++) list.push(build(dim + 1, start + i * step, step));
      return list;
    };
    return build(0, 0, flat.length);
  }

  // --- life ---------------------------------------------------------------------------------------------------------------

  /** Frees it now. Disposing it twice is an error: it shows that two owners believe it theirs. */
  dispose(): void {
    const { handle } = this;
    if (handle <= 0) {
      expectDone(disposedFailure(handle, 'was disposed already'), 'dispose()');
    }
    if (this.scope !== null) this.scope.remove(this);
    else if (unregistered[this.place] === this) {
      const last = unregistered.pop()!;
      if (last !== this) {
        unregistered[this.place] = last;
        last.place = this.place;
      }
    } else backstop.unregister(this);
    this.forget();
    B[0] = handle;
    const failure = nativeRelease(1);
    if (failure !== undefined) expectDone(failure, 'dispose()');
  }

  [Symbol.dispose](): void {
    if (this.handle > 0) this.dispose();
  }

  /** Takes it out of its scope: from now on it lives until it is disposed. */
  keep(): this {
    if (this.handle <= 0) expectDone(disposedFailure(this.handle, 'was disposed'), 'keep()');
    if (this.scope !== null) {
      this.scope.remove(this);
      this.own();
    }
    return this;
  }

  /** For scopes: the native side is about to free it. */
  forget(): void {
    this.handle = disposedHandle(this.handle);
    this.scope = null;
    this.metadata = null;
  }

  /** For scopes: nobody but the holder frees it; the finalizer is the last resort. */
  own(): void {
    this.scope = null;
    this.place = unregistered.push(this) - 1;
    if (unregistered.length >= UNREGISTERED_LIMIT) registerAll();
    else if (!registering) {
      registering = true;
      queueMicrotask(registerAll);
    }
  }

  // --- printing -----------------------------------------------------------------------------------------------------------

  /** Shape, dtype, device and a few values. */
  override toString(): string {
    if (this.handle <= 0) return 'Tensor(disposed)';
    const { dtype, device, shape } = this.facts();
    return formatTensor({
      dtype,
      device,
      shape,
      values:
        device === 'meta' || shape.includes(0) || this.storageBytes === 0
          ? null
          : () => this.cornerValues(isFloating(dtype)),
    });
  }

  /** The first values, read with as little copying as possible. */
  private cornerValues(floating: boolean): number[] {
    return scope(() => {
      let few = this.detach();
      let rest = this.numel; // elements behind one index of the dimensions so far
      this.shape.forEach((size, dim) => {
        rest /= size;
        few = few.narrow(dim, 0, Math.min(size, Math.ceil(SHOWN / rest)));
      });
      const dense = few
        .reshape([-1])
        .slice(0, 0, SHOWN)
        .to({ dtype: floating ? 'float32' : 'int64', device: 'cpu' });
      return Array.from(dense.toTypedArray() as ArrayLike<number | bigint>, Number);
    });
  }

  [inspect.custom](): string {
    return this.toString();
  }

  toJSON(): string {
    return this.toString();
  }
}

function disposedFailure(handle: number, what: string): NativeFailure {
  const note = describeSite(handle);
  return {
    kind: 'stale',
    message: `the tensor ${what}${note === undefined ? '' : ` ${note}`}`,
    argument: -1,
  };
}

connect({
  wrap: (handle) => new Tensor(handle),
  describeDisposed: (buffer) => {
    for (let i = 0; i < 64; i++) {
      const note = describeSite(buffer[i]!);
      if (note !== undefined) return note;
    }
    return undefined;
  },
});
