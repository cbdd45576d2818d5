/** What is wrong where a worker that loads data fails. */
import { OutOfMemoryError, PatinaError } from '../../base/errors.js';
import { fromPlain, type PlainError } from '../../base/plain-error.js';

/** An error from a thread; one that is not Patina's is a fault of the worker. */
export function threadError(plain: PlainError): PatinaError {
  const error = fromPlain(plain);
  return error instanceof PatinaError ? error : workerFault(plain.message, error);
}

/** A worker that ends, or throws what nobody expects. */
export function workerFault(reason: string, cause?: unknown): PatinaError {
  const code: unknown = cause instanceof Error && 'code' in cause ? cause.code : undefined;
  if (code === 'ERR_WORKER_OUT_OF_MEMORY') {
    return new OutOfMemoryError('A worker that loads data has run out of memory.', {
      code: 'E_WORKER_MEMORY',
      hint: 'Use fewer (`data.workers`; of a check `--threads`), and take very large records or images out.',
      cause,
    });
  }
  return new PatinaError(`A worker that loads data has failed: ${reason}.`, {
    code: 'E_WORKER',
    hint: 'Run again with `data.workers` 0, which loads in the main thread (a check with `--threads 1`), to see where; please report it.',
    cause,
  });
}
