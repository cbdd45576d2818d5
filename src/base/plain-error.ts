/** Errors on their way between threads and processes, where classes are lost: as plain data, and as errors of the same class again. */
import {
  DataError,
  EnvironmentError,
  NonFiniteError,
  OutOfMemoryError,
  PatinaError,
  UsageError,
  type PatinaErrorOptions,
} from './errors.js';

export interface PlainError {
  readonly message: string;
  readonly stack: string | undefined;
  /** Of Patina's own errors. */
  readonly typed?: { readonly exitCode: number; readonly code: string; readonly hint: string };
}

/** By their exit codes, which tell Patina's classes apart. */
const CLASSES: Readonly<
  Record<number, new (message: string, options: PatinaErrorOptions) => PatinaError>
> = { 2: UsageError, 3: EnvironmentError, 4: DataError, 5: OutOfMemoryError, 6: NonFiniteError };

/** An error of the class that has this exit code. */
export function errorOf(
  exitCode: number,
  message: string,
  options: PatinaErrorOptions,
): PatinaError {
  const Class = CLASSES[exitCode];
  return Class === undefined
    ? new OtherError(exitCode, message, options)
    : new Class(message, options);
}

class OtherError extends PatinaError {
  constructor(
    override readonly exitCode: number,
    message: string,
    options: PatinaErrorOptions,
  ) {
    super(message, options);
  }
}

export function toPlain(error: unknown): PlainError {
  if (!(error instanceof Error)) return { message: String(error), stack: undefined };
  const { message, stack } = error;
  if (!(error instanceof PatinaError)) return { message, stack };
  const { exitCode, code, hint } = error;
  return { message, stack, typed: { exitCode, code, hint } };
}

/** The error again; with its stack as the cause. */
export function fromPlain({ message, stack, typed }: PlainError): Error {
  const cause = new Error(message);
  if (stack !== undefined) cause.stack = stack;
  if (!typed) return cause;
  const { exitCode, code, hint } = typed;
  return errorOf(exitCode, message, { code, hint, cause });
}
