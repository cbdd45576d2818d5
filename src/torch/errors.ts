/** Errors from below: what the native addon reports becomes an error class with a code and a hint. */

import {
  DataError,
  EnvironmentError,
  OutOfMemoryError,
  PatinaError,
  UsageError,
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

const SHAPE_MESSAGE =
  /must match the size|shapes cannot be multiplied|sizes? mismatch|size mismatch|is invalid for input of size|Sizes of tensors must match|shape mismatch|not broadcastable|expanded size|must match the existing size|normalized_shape|Expected size for|doesn't match|does not match|dimension(s|ality)?\b.*(expected|got)|expected .*\b(dim|shape|size)/i;
const DTYPE_MESSAGE =
  /expected .*(scalar type|dtype)|to have the same dtype|not implemented for '\w+'|result type .* can't be cast|same data type|dtype/i;
const DEVICE_MESSAGE = /on the same device|Expected all tensors|but found at least two devices/i;

/** The error class for a native failure. */
export function failureError(failure: NativeFailure, context: FailureContext): PatinaError {
  const argument = failure.argument >= 0 ? context.arguments?.[failure.argument] : undefined;
  const place =
    argument === undefined ? context.operator : `${context.operator}: argument '${argument}'`;
  const text = `${place}: ${failure.message}${context.note === undefined ? '' : ` ${context.note}`}`;
  switch (failure.kind) {
    case 'stale':
      return new DisposedError(text, {
        code: 'E_DISPOSED',
        hint: 'Return it from its scope or keep() it; PATINA_TRACE_TENSORS=1 names where it was made.',
      });
    case 'argument':
      return new UsageError(text, {
        code: 'E_ARGUMENT',
        hint: "Compare the call with the operator's documented arguments.",
      });
    case 'thread':
      return new ThreadError(text, {
        code: 'E_THREAD',
        hint: 'Keep tensor code on one thread; send other threads plain buffers.',
      });
    case 'memory':
    case 'cuda-memory':
      return new OutOfMemoryError(text, {
        code: 'E_OUT_OF_MEMORY',
        hint: 'Use smaller batches or shorter sequences, recompute activations, or raise the limit.',
      });
    case 'schema':
      return new EnvironmentError(text, {
        code: 'E_SCHEMA',
        hint: 'Use a libtorch from 2.9 to 2.15: run `npm run setup -- --again`, then `patina doctor`.',
      });
    case 'device':
      return new EnvironmentError(text, {
        code: 'E_DEVICE',
        hint: 'Run `patina doctor` to see the devices that there are.',
      });
    case 'file':
      return new DataError(text, {
        code: 'E_FILE',
        hint: 'Check that the file exists and can be read.',
      });
    case 'changed':
      return new DataError(text, {
        code: 'E_FILE_CHANGED',
        hint: 'Do not write to a file while it is in use; start again.',
      });
    case 'extent':
      return new DataError(text, {
        code: 'E_EXTENT',
        hint: 'The data are shorter than their description: fetch or write the file again.',
      });
    case 'unsafe':
      return new UsageError(text, {
        code: 'E_UNSAFE_INTEGER',
        hint: 'Read it with toTypedArray(), which gives bigints.',
      });
    case 'storage':
      return new OperatorError(text, {
        code: 'E_STORAGE',
        hint: 'Resize only storage that libtorch allocated, and fill it again before it is used.',
      });
    case 'meta':
      return new OperatorError(text, {
        code: 'E_META',
        hint: 'Meta tensors have shapes only; make the tensor on a real device.',
      });
    default:
      return operatorError(text, failure);
  }
}

function operatorError(text: string, failure: NativeFailure): PatinaError {
  if (/out of memory/i.test(failure.message)) {
    return failureError({ ...failure, kind: 'memory' }, { operator: text.split(':')[0]! });
  }
  if (failure.kind === 'unsupported') {
    return new OperatorError(text, {
      code: 'E_UNSUPPORTED',
      hint: 'This operator has no kernel for that device or dtype; convert the tensor with to().',
    });
  }
  if (/out of bounds for storage of size 0/.test(failure.message)) {
    return failureError({ ...failure, kind: 'storage' }, { operator: text.split(':')[0]! });
  }
  if (DEVICE_MESSAGE.test(failure.message)) {
    return new OperatorError(text, {
      code: 'E_DEVICE_MISMATCH',
      hint: 'Move the tensors to one device with to().',
    });
  }
  if (failure.kind === 'shape' || failure.kind === 'index' || SHAPE_MESSAGE.test(failure.message)) {
    return new OperatorError(text, {
      code: 'E_SHAPE',
      hint: 'Compare the shapes of the arguments.',
    });
  }
  if (DTYPE_MESSAGE.test(failure.message)) {
    return new OperatorError(text, {
      code: 'E_DTYPE',
      hint: 'Convert the tensors to one dtype with to().',
    });
  }
  return new OperatorError(text, {
    code: 'E_OPERATOR',
    hint: 'Read the message of libtorch above.',
  });
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
