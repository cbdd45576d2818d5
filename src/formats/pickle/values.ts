/**
 * What a checkpoint pickle can hold once it is read: plain data and descriptions of tensors.
 *
 * Python's types stay apart: `int` is a bigint, `float` is a number, `dict` is a Map (never an object: its keys come from
 * the file), list an array, tuple and the rest classes of their own. Values may be shared and may even contain
 * themselves, so whoever walks them needs a limit.
 */
import type { StoredDType } from '../stored.js';

export type PickleValue =
  | null
  | boolean
  | bigint
  | number
  | string
  | Uint8Array
  | PickleValue[]
  | PickleDict
  | PickleTuple
  | PickleSet
  | PickleRecord
  | PickleTensor
  | TorchSize
  | TorchDType
  | TorchDevice
  | NumpyScalar
  | NumpyArray;

/** Python's `dict`, `OrderedDict`, `defaultdict` and `Counter`, in order of insertion. */
export type PickleDict = Map<PickleValue, PickleValue>;

/** Python's `set` and `frozenset`. */
export type PickleSet = Set<PickleValue>;

/** Python's `tuple`. */
export class PickleTuple {
  constructor(readonly items: readonly PickleValue[]) {}
}

/** An object without behaviour, for example `argparse.Namespace`: the name of its class and its attributes. */
export class PickleRecord {
  constructor(
    readonly className: string,
    readonly state: PickleDict = new Map(),
  ) {}
}

/** `torch.Size`. */
export class TorchSize {
  constructor(readonly sizes: readonly bigint[]) {}
}

/** `torch.dtype`, by its name without `torch.`, for example `bfloat16`. */
export class TorchDType {
  readonly kind = 'dtype';
  constructor(readonly name: string) {}
}

/** `torch.device`, for example `cuda:3`. */
export class TorchDevice {
  readonly kind = 'device';
  constructor(readonly name: string) {}
}

/** A numpy scalar: its dtype's name and its value. */
export class NumpyScalar {
  constructor(
    readonly dtype: string,
    readonly value: bigint | number | boolean,
  ) {}
}

/** A numpy array of numbers. */
export class NumpyArray {
  /** `int8` of no elements until its state arrives, which is what numpy makes of such a file too. */
  content: NumpyContent = { dtype: 'int8', shape: [0], values: [] };
}

/** The elements of a numpy array, in row-major order, decoded one by one as they are asked for. */
export interface NumpyContent {
  readonly dtype: string;
  readonly shape: readonly number[];
  readonly values: Iterable<bigint | number | boolean>;
}

/** Bytes that one or more tensors look at. */
export class PickleStorage {
  /** Set by the container when it has found the bytes: their place in the file, or the bytes themselves. */
  place: { readonly offset: number } | { readonly data: Uint8Array } | undefined;

  constructor(
    readonly key: string,
    /** The declared type; `untyped` storages hold bytes. */
    readonly dtype: StoredDType | 'untyped',
    readonly bytes: number,
    /** For a view of another storage (legacy files): that storage, and the byte at which the view starts. */
    readonly view?: { readonly of: PickleStorage; readonly start: number },
  ) {}
}

/** A tensor: a view of a storage. Strides and offset count elements, and all of them lie within the storage. */
export class PickleTensor {
  constructor(
    readonly dtype: StoredDType,
    readonly shape: readonly number[],
    readonly strides: readonly number[],
    readonly offset: number,
    readonly storage: PickleStorage,
    readonly requiresGrad: boolean,
    readonly isParameter: boolean,
  ) {}
}
