/**
 * The TypeScript side of the one door: the shared buffer, how arguments are written into it, and the call.
 *
 * One `Float64Array` carries arguments and results, so that a call crosses into C++ with a single integer. The layout is
 * documented at the top of `native/door.cc`.
 */

import { UsageError } from '../base/errors.js';
import { dtypeCode, type DType } from './dtype.js';
import { failureError } from './errors.js';
import { native, type Device, type Held, type NativeFailure } from './native.js';
import type { Tensor } from './tensor.js';

/** A number as operators take it: integral or floating by the rule in `native/door.cc`; `bigint` is int64. */
export type Scalar = number | bigint | boolean;

/** Arrangement in memory: only dense (`strided`) tensors exist here. */
export type Layout = 'strided';

/** Order of dimensions in memory. */
export type MemoryFormat = 'contiguous' | 'preserve' | 'channels_last';

/** The shared buffer. It grows when a list needs more room, so never hold on to it across calls. */
export let B = new Float64Array(1 << 14);
let longs = new BigInt64Array(B.buffer);
let failed = native.setBuffer(B);
if (failed !== undefined) throw failureError(failed, { operator: 'load' });

/** Makes room for `count` more numbers from position `at`, keeping what lies before. */
export function room(at: number, count: number): void {
  if (at + count <= B.length) return;
  const larger = new Float64Array(2 ** Math.ceil(Math.log2(at + count + 1024)));
  larger.set(B);
  B = larger;
  longs = new BigInt64Array(B.buffer);
  failed = native.setBuffer(B);
  if (failed !== undefined) throw failureError(failed, { operator: 'buffer' });
}

function refuse(what: string, value: unknown): never {
  const got = value === null ? 'null' : typeof value === 'number' ? String(value) : typeof value;
  throw new UsageError(`expected ${what}, got ${got}`, {
    code: 'E_ARGUMENT',
    hint: "Compare the call with the operator's documented arguments.",
  });
}

// --- arguments ------------------------------------------------------------------------------------------------------------
// Each writer takes a position, writes there, and returns the next position.

export function putScalar(at: number, value: Scalar | null | undefined): number {
  if (typeof value === 'number') {
    B[at] = 1;
    B[at + 1] = value;
  } else if (typeof value === 'bigint') {
    if (BigInt.asIntN(64, value) !== value) {
      throw new UsageError(`the integer ${String(value)} does not fit in 64 bits`, {
        code: 'E_ARGUMENT',
        hint: 'Use a number for values beyond int64.',
      });
    }
    B[at] = 4;
    longs[at + 1] = value;
  } else if (typeof value === 'boolean') {
    B[at] = 3;
    B[at + 1] = value ? 1 : 0;
  } else if (value == null) {
    B[at] = 0;
    B[at + 1] = 0;
  } else {
    refuse('a number, bigint or boolean', value);
  }
  return at + 2;
}

/** A list of integers or floats; `null` for none. */
export function putNumbers(at: number, list: readonly number[] | null | undefined): number {
  if (list == null) {
    B[at] = -1;
    return at + 1;
  }
  if (typeof list !== 'object' || list.length === undefined) refuse('a list of numbers', list);
  room(at, list.length + 64);
  B[at] = list.length;
  for (let i = 0; i < list.length; i++) B[at + 1 + i] = numberArgument(list[i]);
  return at + 1 + list.length;
}

export function putBools(at: number, list: readonly boolean[]): number {
  if (list?.length === undefined) refuse('a list of booleans', list);
  room(at, list.length + 64);
  B[at] = list.length;
  for (let i = 0; i < list.length; i++) B[at + 1 + i] = booleanArgument(list[i]);
  return at + 1 + list.length;
}

/** A list of tensors; `null` elements stand for "none" where the operator allows it. */
export function putTensors(at: number, list: readonly (Tensor | null)[]): number {
  if (list?.length === undefined) refuse('a list of tensors', list);
  room(at, list.length + 64);
  B[at] = list.length;
  for (let i = 0; i < list.length; i++) {
    const tensor = list[i];
    B[at + 1 + i] = tensor === null ? 0 : (tensor?.handle ?? NaN);
  }
  return at + 1 + list.length;
}

export function putScalars(at: number, list: readonly Scalar[]): number {
  if (list?.length === undefined) refuse('a list of numbers', list);
  room(at, 2 * list.length + 64);
  B[at] = list.length;
  let next = at + 1;
  for (const value of list) next = putScalar(next, value);
  return next;
}

/** Handle of an optional tensor; 0 for none. */
export function optionalHandle(tensor: Tensor | null | undefined): number {
  return tensor == null ? 0 : tensor.handle;
}

export function numberArgument(value: number | undefined): number {
  return typeof value === 'number' ? value : refuse('a number', value);
}

/** An optional integer; NaN for none. */
export function optionalInteger(value: number | null | undefined): number {
  if (value == null) return NaN;
  return Number.isInteger(value) ? value : refuse('an integer', value);
}

export function optionalFloat(at: number, value: number | null | undefined): void {
  B[at] = value == null ? 0 : 1;
  B[at + 1] = value == null ? 0 : numberArgument(value);
}

export function booleanArgument(value: boolean | undefined): number {
  return typeof value === 'boolean' ? (value ? 1 : 0) : refuse('a boolean', value);
}

/** An optional boolean; NaN for none. */
export function optionalBoolean(value: boolean | null | undefined): number {
  return value == null ? NaN : booleanArgument(value);
}

const LAYOUTS: Readonly<Record<Layout, number>> = { strided: 0 };
const FORMATS: Readonly<Record<MemoryFormat, number>> = {
  contiguous: 0,
  preserve: 1,
  channels_last: 2,
};

/** Code of a dtype, layout or memory format; NaN (none) for undefined. */
export function dtypeArgument(value: DType | null | undefined): number {
  if (value == null) return NaN;
  const code = dtypeCode(value);
  return Number.isNaN(code) ? refuse('a dtype', value) : code;
}

export function layoutArgument(value: Layout | null | undefined): number {
  return value == null ? NaN : (LAYOUTS[value] ?? refuse('a layout', value));
}

export function formatArgument(value: MemoryFormat | null | undefined): number {
  return value == null ? NaN : (FORMATS[value] ?? refuse('a memory format', value));
}

const strings = new Map<string, number>();
const devices = new Map<string, number>();

export function stringArgument(value: string | null | undefined): number {
  if (value == null) return 0;
  let id = strings.get(value);
  if (id === undefined) {
    const made = native.intern(value);
    if (typeof made !== 'number') throw failureError(made, { operator: 'intern' });
    strings.set(value, (id = made));
  }
  return id;
}

export function deviceArgument(value: Device | null | undefined): number {
  if (value == null) return 0;
  let id = devices.get(value);
  if (id === undefined) {
    const made = native.device(value);
    if (typeof made !== 'number') throw failureError(made, { operator: `device '${value}'` });
    devices.set(value, (id = made));
  }
  return id;
}

export function generatorArgument(value: Held | null | undefined): number {
  return value == null ? 0 : value.handle;
}

// --- operators ------------------------------------------------------------------------------------------------------------

interface Declared {
  readonly name: string;
  readonly arguments: readonly string[];
}

const declared: Declared[] = [];

/** Declares an operator: `add.Tensor`, its arguments as `name:type`; the number to call it by. Found at its first call. */
export function declare(operator: string, args: readonly string[], discard = false): number {
  const dot = operator.indexOf('.');
  const [name, overload] =
    dot < 0 ? [operator, ''] : [operator.slice(0, dot), operator.slice(dot + 1)];
  const id = native.declare(name, overload, args, discard);
  if (typeof id !== 'number') throw failureError(id, { operator });
  declared[id] = { name: operator, arguments: args };
  return id;
}

/** Checks every declared operator against the libtorch in use; the failures, by operator. */
export function checkOperators(): { operator: string; message: string }[] {
  const failures: { operator: string; message: string }[] = [];
  declared.forEach(({ name }, id) => {
    const failure = native.resolve(id);
    if (failure !== undefined) failures.push({ operator: name, message: failure.message });
  });
  return failures;
}

/** Finds a note about the disposed tensor among the arguments just written; set by the tensor module. */
let describeDisposed: (buffer: Float64Array) => string | undefined = () => undefined;
/** Wraps a handle; set by the tensor module. */
let wrap: (handle: number) => Tensor;

/** Breaks the circle between this module and `Tensor`. */
export function connect(hooks: {
  wrap: typeof wrap;
  describeDisposed: typeof describeDisposed;
}): void {
  ({ wrap, describeDisposed } = hooks);
}

/** The error for a failed call, with the caller's stack. */
function callError(id: number, failure: NativeFailure): Error {
  const { name, arguments: args } = declared[id]!;
  const note = failure.kind === 'stale' ? describeDisposed(B) : undefined;
  return failureError(failure, {
    operator: `${name}()`,
    arguments: args.map((argument) => argument.slice(0, argument.indexOf(':'))),
    ...(note === undefined ? {} : { note }),
  });
}

// The addon's function itself: looking it up in the exports costs a tenth of a short call.
const nativeCall = native.call;

/** Runs an operator whose arguments lie in the buffer; results are read by the caller. */
export function call(id: number): void {
  const failure = nativeCall(id);
  if (failure !== undefined) recover(id, failure);
}

/** Runs an operator and wraps its single tensor. */
export function callTensor(id: number): Tensor {
  const failure = nativeCall(id);
  if (failure !== undefined) throw callError(id, failure);
  return wrap(B[0]!);
}

/** A list of results may be longer than the buffer: they wait on the native side until there is room. */
function recover(id: number, failure: NativeFailure): void {
  if (failure.kind !== 'room') throw callError(id, failure);
  room(0, failure.argument);
  const again = native.results();
  if (again !== undefined) throw callError(id, again);
}

/** Wraps the handle at a position of the buffer. */
export function tensorAt(at: number): Tensor {
  return wrap(B[at]!);
}

/** Wraps the handle at a position of the buffer; `null` where there is none. */
export function optionalTensorAt(at: number): Tensor | null {
  const handle = B[at]!;
  return handle === 0 ? null : wrap(handle);
}

/** Wraps the list of handles at the start of the buffer. */
export function tensorList(): Tensor[] {
  const count = B[0]!;
  const list: Tensor[] = [];
  for (let i = 1; i <= count; i++) list.push(wrap(B[i]!));
  return list;
}
