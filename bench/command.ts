/** What command lines of benches share. */
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

/** A number from 0 on, as an option gives it. @throws UsageError `E_USAGE` for what is none */
export function amountOf(option: string, given: string): number {
  const amount = Number(given);
  if (given !== '' && amount >= 0) return amount;
  throw new UsageError(`--${option} ${given}: that is no amount`, {
    code: 'E_USAGE',
    hint: 'Give a number, 0 or more.',
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
