/** What benches with names on their command line share. */
import { PatinaError, UsageError } from '../src/base/errors.js';

/** Names with commas between, each of them known. @throws UsageError `E_USAGE` for one that is not */
export function namesOf<T extends string>(what: string, names: string, known: readonly T[]): T[] {
  return names.split(',').map((name) => {
    const found = known.find((each) => each === name);
    if (found !== undefined) return found;
    throw new UsageError(`there is no ${what} "${name}"`, {
      code: 'E_USAGE',
      hint: `Give names with commas between: ${known.join(', ')}.`,
    });
  });
}

/** Runs a bench; what was called wrongly is said without a stack. */
export async function runBench(bench: () => void | Promise<void>): Promise<void> {
  try {
    await bench();
  } catch (error) {
    if (!(error instanceof PatinaError)) throw error;
    console.error(`${error.message}\n${error.hint}`);
    process.exitCode = error.exitCode;
  }
}
