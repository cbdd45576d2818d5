/**
 * Every error that Patina throws on purpose: a class with a `code`, a `hint` that says what to do, and a `cause`.
 *
 * The class decides the exit code of the command line (see README, "Exit codes"); the `code` names the exact fault and is
 * stable, so that programs can branch on it. Messages carry the values: file, line, field, shape.
 */

export interface PatinaErrorOptions {
  /** Stable identifier of the fault, for example `E_SHAPE`. */
  code: string;
  /** What the reader can do about it, one imperative sentence. */
  hint: string;
  /** The error underneath, if there is one. */
  cause?: unknown;
}

/** Base class of all of Patina's errors. */
export class PatinaError extends Error {
  readonly code: string;
  readonly hint: string;
  /** Exit code of the command line when this error ends it. */
  readonly exitCode: number = 1;

  constructor(message: string, { code, hint, cause }: PatinaErrorOptions) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.hint = hint;
  }
}

/** A wrong use: an unknown command or option, an invalid recipe or argument. */
export class UsageError extends PatinaError {
  override readonly exitCode: number = 2;
}

/** The machine lacks something: libtorch, a compiler, a GPU, disk space, permission, the network. */
export class EnvironmentError extends PatinaError {
  override readonly exitCode: number = 3;
}

/** A file or record is missing, broken, hostile or does not fit the model. */
export class DataError extends PatinaError {
  override readonly exitCode: number = 4;
}

/** An allocation failed or went over the memory limit. */
export class OutOfMemoryError extends PatinaError {
  override readonly exitCode: number = 5;
}

/** The loss or a gradient is not finite. */
export class NonFiniteError extends PatinaError {
  override readonly exitCode: number = 6;
}
