/** Errors as OpenAI's clients read them: `{ "error": { message, type, param, code } }` with a status. */
import { OutOfMemoryError, PatinaError, type PatinaErrorOptions } from '../base/errors.js';
import { BusyError } from '../generate/index.js';
import { type ErrorStatus, HttpError, statusOf } from './http-error.js';

export interface ApiErrorBody {
  readonly error: {
    readonly message: string;
    readonly type: string;
    /** The field of the request that is at fault: `messages[0].content`. */
    readonly param: string | null;
    readonly code: string;
  };
}

/** A fault of a request for an answer. Its code is OpenAI's where OpenAI has one. */
export class ApiError extends HttpError {
  readonly param: string | null;

  constructor(
    message: string,
    {
      param = null,
      ...options
    }: PatinaErrorOptions & { status?: ErrorStatus; param?: string | null },
  ) {
    super(message, options);
    this.param = param;
  }
}

/** Names that OpenAI has for faults of ours. */
const CODES: Readonly<Record<string, string>> = {
  E_CONTEXT: 'context_length_exceeded',
  E_BUSY: 'rate_limit_exceeded',
};

export function apiStatusOf(error: unknown): ErrorStatus {
  if (error instanceof BusyError) return 429;
  return error instanceof OutOfMemoryError ? 503 : statusOf(error);
}

/** What is no fault of a request says nothing of the machine that it happened on, but for its code. */
export function errorBody(error: unknown): ApiErrorBody {
  const status = apiStatusOf(error);
  const type =
    status === 429 ? 'rate_limit_error' : status >= 500 ? 'server_error' : 'invalid_request_error';
  const isTold = error instanceof ApiError || (error instanceof PatinaError && status < 500);
  if (!isTold) {
    const message = 'Something went wrong in the server; its log says what.';
    const code = error instanceof PatinaError ? error.code : 'internal_error';
    return { error: { message, type, param: null, code } };
  }
  const { message, hint, code } = error;
  return {
    error: {
      message: `${message} ${hint}`,
      type,
      param: error instanceof ApiError ? error.param : null,
      code: CODES[code] ?? code,
    },
  };
}
