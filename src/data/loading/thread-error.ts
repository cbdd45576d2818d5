/** Errors on their way between threads, where classes are lost: as plain data, and as errors of the same class again. */
import {
  DataError,
  EnvironmentError,
  OutOfMemoryError,
  PatinaError,
  UsageError,
  type PatinaErrorOptions,
} from '../../base/errors.js';

export interface PlainError {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of Patina's own errors. */
  readonly typed?: { readonly exitCode: number; readonly code: string; readonly hint: string };
}

/** By their exit codes, which tell Patina's classes apart. */
const CLASSES: Readonly<
  Record<number, new (message: string, options: PatinaErrorOptions) => PatinaError>
> = { 2: UsageError, 3: EnvironmentError, 4: DataError, 5: OutOfMemoryError };

export function toPlain(error: unknown): PlainError {
  if (!(error instanceof Error)) return { message: String(error), stack: undefined };
  const { message, stack } = error;
  if (!(error instanceof PatinaError)) return { message, stack };
  const { exitCode, code, hint } = error;
  return { message, stack, typed: { exitCode, code, hint } };
}

/** The error again; one that is not Patina's is a fault of the worker. */
export function fromPlain({ message, stack, typed }: PlainError): PatinaError {
  const cause = new Error(message);
  if (stack !== undefined) cause.stack = stack;
  if (!typed) return workerFault(message, cause);
  const { exitCode, code, hint } = typed;
  return new (CLASSES[exitCode] ?? PatinaError)(message, { code, hint, cause });
}

/** A worker that ends, or throws what nobody expects. */
export function workerFault(reason: string, cause?: unknown): PatinaError {
  const code: unknown = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new OutOfMemoryError('A worker that loads data has run out of memory.', {
      code: 'E_WORKER_MEMORY',
      hint: 'Use fewer workers (`data.workers`), and take very large records or images out.',
      cause,
    });
  }
  return new PatinaError(`A worker that loads data has failed: ${reason}.`, {
    code: 'E_WORKER',
    hint: 'Run again with `data.workers` 0, which loads in the main thread, to see where; please report it.',
    cause,
  });
}
