/** Operators that run on a thread beside JavaScript's. */

import { expectDone, expectValue, failureError, isFailure } from './errors.js';
import { native } from './native.js';
import { refusePromise } from './refuse-promise.js';

/**
 * Runs the operators of a synchronous function on another thread, one after another, after those of earlier calls. They must work in
 * place and on CPU tensors, which nobody else may write meanwhile; they may be disposed.
 *
 * @throws OperatorError for an operator that gives a new tensor, and for what fails later
 */
export async function inBackground(run: () => unknown): Promise<void> {
  expectDone(native.putOff(), 'inBackground()');
  try {
    refusePromise(run(), 'inBackground', 'The function only names what is to be done.');
  } catch (error) {
    native.forgetPutOff();
    throw error;
  }
  try {
    await expectValue(native.runPutOff(), 'inBackground()');
  } catch (failure) {
    throw isFailure(failure) ? failureError(failure, { operator: 'inBackground()' }) : failure;
  }
}
