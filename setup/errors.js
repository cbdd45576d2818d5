/**
 * The one error class of the set-up, with the fields of the classes in src/base/errors.ts, which do not exist yet when
 * the set-up runs.
 */
import { errorCode } from '../src/base/error-code.js';

/** A fault that ends the set-up: what happened, a stable code, what to do about it, and the command that does it. */
export class SetupError extends Error {
  exitCode = 3;

  /**
   * @param {string} message
   * @param {{ code: string, hint: string, command?: string, cause?: unknown }} options
   */
  constructor(message, { code, hint, command = 'npm run setup', cause }) {
    super(message, cause === undefined ? undefined : { cause });
    this.name = 'SetupError';
    this.code = code;
    this.hint = hint;
    this.command = command;
  }
}

const FULL = new Set(['ENOSPC', 'EDQUOT']);
const UNWRITABLE = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EISDIR']);

/**
 * The typed error for a fault of disk or rights, or `error` itself when it is none.
 *
 * @param {unknown} error
 * @returns {unknown}
 */
export function asSetupError(error) {
  const code = errorCode(error) ?? '';
  const message = error instanceof Error ? error.message : String(error);
  if (FULL.has(code)) {
    return new SetupError(`The disk is full: ${message}`, {
      code: 'E_DISK_FULL',
      hint: 'Free some space, then run the same command again.',
      cause: error,
    });
  }
  if (UNWRITABLE.has(code)) {
    return new SetupError(`The project folder cannot be written: ${message}`, {
      code: 'E_UNWRITABLE',
      hint: 'Give yourself the right to write in the project folder, or clone it somewhere else.',
      cause: error,
    });
  }
  return error;
}
