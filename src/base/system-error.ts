/** Faults of the file system (`ENOSPC`, `EACCES`, ...) and what they mean for the person at the keyboard. */
import { errorCode } from './error-code.js';
import { EnvironmentError } from './errors.js';

export { errorCode };

const FULL = new Set(['ENOSPC', 'EDQUOT']);
const UNWRITABLE = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST', 'EISDIR', 'EBUSY']);

/**
 * The typed error for a write that failed, or `error` itself when it is no fault of disk or rights:
 * E_DISK_FULL for a full disk or quota, E_UNWRITABLE for a missing right, a read-only disk, a file in the way or a folder that is not there.
 *
 * @param action What was being done, for example `write the checkpoint`.
 */
export function writeError(error: unknown, path: string, action: string): unknown {
  const code = errorCode(error) ?? '';
  if (FULL.has(code)) {
    return new EnvironmentError(`The disk is full: could not ${action} at ${path}.`, {
      code: 'E_DISK_FULL',
      hint: 'Free some space or choose a folder on another disk, then run the same command again; a run that has saved goes on with `patina train --resume`.',
      cause: error,
    });
  }
  if (code === 'ENOENT') {
    return new EnvironmentError(`Could not ${action} at ${path}: its folder is not there.`, {
      code: 'E_UNWRITABLE',
      // Of a disk that is read-only Node says the same where several folders were to be made.
      hint: 'Was it removed or renamed while it was in use? Else choose a folder that you may write to.',
      cause: error,
    });
  }
  if (UNWRITABLE.has(code)) {
    return new EnvironmentError(`Could not ${action} at ${path} (${code}).`, {
      code: 'E_UNWRITABLE',
      hint: 'Choose a folder that you may write to, or change its rights.',
      cause: error,
    });
  }
  return error;
}

/** Runs something that writes; what fails is told as `writeError` does. */
export async function writing<T>(
  path: string,
  action: string,
  write: () => Promise<T>,
): Promise<T> {
  try {
    return await write();
  } catch (error) {
    throw writeError(error, path, action);
  }
}
