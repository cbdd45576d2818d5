/** Errors from below: what the native addon reports becomes an error class with a code and a hint. */

import {
  DataError,
  EnvironmentError,
  OutOfMemoryError,
  PatinaError,
  UsageError,
  type PatinaErrorOptions,
} from '../base/errors.js';
import type { NativeFailure } from './native.js';

/** An operator refused its tensors: shapes that do not fit, a dtype or device that it lacks. */
export class OperatorError extends PatinaError {}

/** A tensor, generator, event or mapped file was used after it was disposed. */
export class DisposedError extends PatinaError {}

/** Tensor code ran on a second thread. */
export class ThreadError extends PatinaError {}

/** Where a failure happened: the operator and the names of its arguments. */
export interface FailureContext {
  readonly operator: string;
  readonly arguments?: readonly string[];
  /** Added to the message, for example where a disposed tensor was made. */
  readonly note?: string;
}

type PatinaErrorClass = new (message: string, options: PatinaErrorOptions) => PatinaError;

interface Kind {
  readonly type: PatinaErrorClass;
  readonly code: string;
  readonly hint: string;
}

/** What the addon calls a failure, and what becomes of it. */
const KINDS = {
  stale: {
    type: DisposedError,
    code: 'E_DISPOSED',
    hint: 'Keep it: return a tensor from its scope or keep() it; PATINA_TRACE_TENSORS=1 names where it was made.',
  },
  argument: {
    type: UsageError,
    code: 'E_ARGUMENT',
    hint: "Compare the call with the operator's documented arguments.",
  },
  thread: {
    type: ThreadError,
    code: 'E_THREAD',
    hint: 'Keep tensor code on one thread; send other threads plain buffers.',
  },
  memory: {
    type: OutOfMemoryError,
    code: 'E_OUT_OF_MEMORY',
    hint: 'Use smaller batches or shorter sequences, recompute activations, or raise the limit.',
  },
  crowded: {
    type: OutOfMemoryError,
    code: 'E_OUT_OF_MEMORY',
    hint: 'Other processes hold much of this GPU: `nvidia-smi` lists them. End them, or choose another GPU.',
  },
  busy: {
    type: EnvironmentError,
    code: 'E_DEVICE_BUSY',
    hint: 'Another process has this GPU for itself: `nvidia-smi` shows it. Wait for it, or choose another GPU.',
  },
  schema: {
    type: EnvironmentError,
    code: 'E_SCHEMA',
    hint: 'Use a libtorch from 2.9 to 2.15: run `npm run setup -- --again`, then `patina doctor`.',
  },
  device: {
    type: EnvironmentError,
    code: 'E_DEVICE',
    hint: 'Run `patina doctor` to see the devices that there are.',
  },
  file: {
    type: DataError,
    code: 'E_FILE',
    hint: 'Check that the file exists and can be read.',
  },
  changed: {
    type: DataError,
    code: 'E_FILE_CHANGED',
    hint: 'Do not write to a file while it is in use; start again.',
  },
  extent: {
    type: DataError,
    code: 'E_EXTENT',
    hint: 'The data are shorter than their description: fetch or write the file again.',
  },
  unsafe: {
    type: UsageError,
    code: 'E_UNSAFE_INTEGER',
    hint: 'Read it with toTypedArray(), which gives bigints.',
  },
  storage: {
    type: OperatorError,
    code: 'E_STORAGE',
    hint: 'Resize only storage that libtorch allocated, and fill it again before it is used.',
  },
  meta: {
    type: OperatorError,
    code: 'E_META',
    hint: 'Meta tensors have shapes only; make the tensor on a real device.',
  },
  unsupported: {
    type: OperatorError,
    code: 'E_UNSUPPORTED',
    hint: 'This operator has no kernel for that device or dtype; convert the tensor with to().',
  },
  cuda: {
    type: OperatorError,
    code: 'E_CUDA',
    hint: 'Start the program again; CUDA_LAUNCH_BLOCKING=1 names the operator at fault.',
  },
  mismatch: {
    type: OperatorError,
    code: 'E_DEVICE_MISMATCH',
    hint: 'Move the tensors to one device with to().',
  },
  graph: {
    type: OperatorError,
    code: 'E_GRAPH',
    hint: 'Check what is recorded: leaves want requiresGrad_(), and a graph serves one backward.',
  },
  shape: {
    type: OperatorError,
    code: 'E_SHAPE',
    hint: 'Compare the shapes of the arguments.',
  },
  index: {
    type: OperatorError,
    code: 'E_SHAPE',
    hint: 'Compare the indices with the shape of what they point into.',
  },
  dtype: {
    type: OperatorError,
    code: 'E_DTYPE',
    hint: 'Convert the tensors to one dtype with to().',
  },
  operator: {
    type: OperatorError,
    code: 'E_OPERATOR',
    hint: 'Read the message of libtorch above.',
  },
} as const satisfies Record<string, Kind>;

/** libtorch tells the kind of most failures in its message alone; the first line that fits decides. */
const MESSAGES: readonly [RegExp, keyof typeof KINDS][] = [
  [/busy or unavailable|exclusive/i, 'busy'],
  [/CUDA error: out of memory/, 'crowded'], // not the allocator: the driver, for the process itself
  [/out of memory/i, 'memory'],
  [/CUDA error|CUDNN_STATUS|CUBLAS_STATUS/, 'cuda'],
  [/Cannot copy out of meta tensor/, 'meta'],
  [/out of bounds for storage of size 0/, 'storage'],
  [/on the same device|Expected all tensors|at least two devices/i, 'mismatch'],
  [
    /does not require grad|backward through the graph|inplace operation|leaf Variable|grad can be implicitly created|Inference tensors|derivative for .* is not implemented/,
    'graph',
  ],
  [
    /must match the size|shapes cannot be multiplied|sizes? mismatch|is invalid for input of size|Sizes of tensors must match|shape mismatch|not broadcastable|expanded size|must match the existing size|must be a (matrix|vector|2-D|3-D)|must be batches of|1D tensors|normalized_shape|Expected size for|doesn't match|does not match|size calculation overflowed|dimension(s|ality)?\b.*(expected|got)|expected .*\b(dim|shape|size)/i,
    'shape',
  ],
  [
    /expected .*(scalar type|dtype)|to have the same dtype|not implemented for '\w+'|can't be cast|same data type|Only Tensors of floating point|dtype/i,
    'dtype',
  ],
];

function kindOf(failure: NativeFailure): Kind {
  const { kind, message } = failure;
  const plain = kind in KINDS ? (kind as keyof typeof KINDS) : 'operator';
  // 'operator' and 'unsupported' are what libtorch says of much: its message may tell more.
  if (plain === 'operator' || plain === 'unsupported') {
    const told = MESSAGES.find(([pattern]) => pattern.test(message))?.[1] ?? plain;
    return KINDS[plain === 'unsupported' && told === 'dtype' ? plain : told];
  }
  return KINDS[plain === 'memory' && isCrowded(message) ? 'crowded' : plain];
}

/** Whether, by what libtorch's allocator says, more than a tenth of a full GPU belongs to others. */
function isCrowded(message: string): boolean {
  const bytes = (pattern: RegExp): number => {
    const [, value, unit] = pattern.exec(message) ?? [];
    return Number(value) * { KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, bytes: 1 }[unit ?? '']!;
  };
  const total = bytes(/total capacity of ([\d.]+) (\w+)/);
  const known =
    bytes(/of which ([\d.]+) (\w+) is free/) +
    bytes(/([\d.]+) (\w+) is allocated by PyTorch/) +
    bytes(/([\d.]+) (\w+) is reserved by PyTorch but unallocated/);
  return total - known > total / 10;
}

/** The error class for a native failure. */
export function failureError(failure: NativeFailure, context: FailureContext): PatinaError {
  const argument = failure.argument >= 0 ? context.arguments?.[failure.argument] : undefined;
  const place =
    argument === undefined ? context.operator : `${context.operator}: argument '${argument}'`;
  const note = context.note === undefined ? '' : ` ${context.note}`;
  const { type: Type, code, hint } = kindOf(failure);
  return new Type(`${place}: ${failure.message}${note}`, { code, hint });
}

/** Whether a native call failed. */
export function isFailure(value: unknown): value is NativeFailure {
  return typeof value === 'object' && value !== null && 'kind' in value && 'argument' in value;
}

/** The value of a native call, or its error thrown. */
export function expectValue<T>(value: T | NativeFailure, operator: string): T {
  if (isFailure(value)) throw failureError(value, { operator });
  return value;
}

/** Throws if a native call failed. */
export function expectDone(failure: NativeFailure | undefined, operator: string): void {
  if (failure !== undefined) throw failureError(failure, { operator });
}
