/** What ends a job, as all of its ranks hear of it: by a text in the store, from which each makes the same error. */

import { EnvironmentError, type PatinaError } from '../base/errors.js';
import { errorOf } from '../base/plain-error.js';

/** What a loss is told with, by its code. */
const HINTS: Readonly<Record<string, string>> = {
  E_RANK_LOST:
    'See the log of that rank and its machine: was it killed (out of memory: `dmesg`), stopped, or cut off?',
  E_RANK_FAILED: 'See the log of that rank.',
  E_LAUNCHER_LOST: 'Start the job again.',
  E_COLLECTIVE_ORDER:
    'All ranks must make the same calls in the same order: run the same version with the same recipe, data and models on all of them.',
  E_COLLECTIVE_TIMEOUT: 'See what the ranks named do, and the logs and load of their machines.',
  E_COLLECTIVE: 'See the logs of all ranks, and whether the network between them holds.',
  E_RENDEZVOUS: 'See their logs: have they been started, and do they reach the host of rank 0?',
  E_WORLD_SIZE: 'Start all ranks of a job with the same number of processes.',
};

/** A loss as the store has it: `CODE message`, and for a rank that has failed the exit code of its error, `E_RANK_FAILED:5 message`. */
export function lossError(text: string): PatinaError {
  const [, code = '', exitCode, message = ''] = /^([^\s:]+)(?::(\d+))? ([^]*)$/.exec(text)!;
  const options = { code, hint: HINTS[code] ?? 'See the logs of all ranks.' };
  return exitCode === undefined
    ? new EnvironmentError(message, options)
    : errorOf(Number(exitCode), message, options);
}

export function failureText(exitCode: number, message: string): string {
  return `E_RANK_FAILED:${exitCode} ${message}`;
}
