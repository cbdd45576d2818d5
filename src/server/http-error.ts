/** Errors with the status that a client gets. */
import { DataError, PatinaError, type PatinaErrorOptions, UsageError } from '../base/errors.js';

export type ErrorStatus = 400 | 401 | 403 | 404 | 405 | 413 | 429 | 500 | 503 | 504;

/** A fault of a request that is not one of another room. */
export class HttpError extends PatinaError {
  readonly status: ErrorStatus;

  constructor(
    message: string,
    { status = 400, ...options }: PatinaErrorOptions & { status?: ErrorStatus },
  ) {
    super(message, options);
    this.status = status;
  }
}

/** Bad input is the client's fault, all that is not known the server's. */
export function statusOf(error: unknown): ErrorStatus {
  if (error instanceof HttpError) return error.status;
  return error instanceof DataError || error instanceof UsageError ? 400 : 500;
}
