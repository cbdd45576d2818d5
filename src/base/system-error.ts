/** Faults of the file system (`ENOSPC`, `EACCES`, ...) and what they mean for the person at the keyboard. */
import { errorCode } from './error-code.js';
import { EnvironmentError } from './errors.js';

export { errorCode };

const FULL = new Set(['ENOSPC', 'EDQUOT']);

interface Reason {
  readonly why: string;
  readonly hint: string;
}

const RIGHTS = 'Choose a folder that you may write to, or change its rights.';
const IN_THE_WAY = 'Choose another place, or remove what is in the way.';

const UNWRITABLE: Readonly<Record<string, Reason>> = {
  EACCES: { why: 'you have no right to write there', hint: RIGHTS },
  EPERM: { why: 'you have no right to write there', hint: RIGHTS },
  EROFS: { why: 'that disk can only be read', hint: 'Choose a folder on another disk.' },
  ENOTDIR: { why: 'a part of that path is a file, not a folder', hint: IN_THE_WAY },
  EEXIST: { why: 'something of that name is there', hint: IN_THE_WAY },
  EISDIR: { why: 'it is a folder', hint: 'Name a file in it.' },
  EBUSY: { why: 'it is in use', hint: 'Choose another name, or wait until it is free.' },
  ENAMETOOLONG: { why: 'the name is too long', hint: 'Choose a shorter one.' },
  ENOENT: {
    why: 'its folder is not there',
    // Of a disk that is read-only Node says the same where several folders were to be made.
    hint: 'Was it removed or renamed while it was in use? Else choose a folder that you may write to.',
  },
};

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
  if (!Object.hasOwn(UNWRITABLE, code)) return error;
  const { why, hint } = UNWRITABLE[code]!;
  return unwritable(path, action, { why: `${why} (${code})`, hint, cause: error });
}

/** What cannot be written at a path, and why. */
export function unwritable(
  path: string,
  action: string,
  { why, hint, cause }: Reason & { readonly cause?: unknown },
): EnvironmentError {
  return new EnvironmentError(`Could not ${action} at ${path}: ${why}.`, {
    code: 'E_UNWRITABLE',
    hint,
    cause,
  });
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
