/** Files that a command writes at its end: looked at before its work. */
import { resolve } from 'node:path';

import { UsageError } from '../base/errors.js';
import { requireWritable } from '../base/writable.js';

/** Files by the option that names each; `undefined` where it is not given. */
type FilesByOption = Readonly<Record<string, string | undefined>>;

/**
 * Tries whether files can be written, and leaves them as they are.
 *
 * @param action What is to be done, for example `write the report`.
 * @param others that the command reads, or appends to
 * @throws UsageError `E_SAME_FILE` where two options name one file; EnvironmentError `E_UNWRITABLE`, `E_DISK_FULL`
 */
export async function requireTargets(
  targets: FilesByOption,
  action: string,
  others: FilesByOption = {},
): Promise<void> {
  const taken = new Map<string, string>();
  for (const [option, file] of Object.entries({ ...others, ...targets })) {
    if (file === undefined) continue;
    const other = taken.get(resolve(file));
    if (other !== undefined) throw sameFile(other, option, file);
    taken.set(resolve(file), option);
  }
  for (const file of Object.values(targets)) {
    if (file !== undefined) await requireWritable(file, action);
  }
}

function sameFile(first: string, second: string, file: string): UsageError {
  return new UsageError(`${first} and ${second} name the same file, ${file}.`, {
    code: 'E_SAME_FILE',
    hint: `Name another file for ${second}.`,
  });
}
