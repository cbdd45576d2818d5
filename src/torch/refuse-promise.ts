/**
 * What belongs to the thread while a function runs (a scope, grad mode, a stream) ends at the first await of one that is
 * asynchronous, so such functions are refused.
 */

import { UsageError } from '../base/errors.js';

/** @throws UsageError `E_SCOPE_ASYNC` where `result` is a promise, whose outcome no longer matters */
export function refusePromise(result: unknown, name: string, hint: string): void {
  if (!(result instanceof Promise)) return;
  result.catch(() => undefined);
  throw new UsageError(`the function given to ${name}() returned a promise`, {
    code: 'E_SCOPE_ASYNC',
    hint,
  });
}
