/** How the command line shows an error: what happened, its code, what to do; with PATINA_DEBUG=1 stacks and causes too. */
import { inspect } from 'node:util';

import { PatinaError } from '../base/errors.js';

/** Prints `error:`, `code:` and `hint:` lines. */
export function printError(
  error: unknown,
  stream: { write(text: string): unknown },
  { debug = isDebug() }: { debug?: boolean } = {},
): void {
  const { message, code, hint } = describe(error);
  stream.write(`error: ${message}\ncode: ${code}\nhint: ${hint}\n`);
  if (debug) stream.write(`${inspect(error)}\n`);
}

/** The exit code of the command line when `error` ends it. */
export function exitCodeOf(error: unknown): number {
  return error instanceof PatinaError ? error.exitCode : 1;
}

/** Message, code and hint of any error. */
export function describe(error: unknown): { message: string; code: string; hint: string } {
  if (error instanceof PatinaError) {
    const { message, code, hint } = error;
    return { message, code, hint };
  }
  return {
    message: error instanceof Error ? error.message : inspect(error),
    code: 'E_UNEXPECTED',
    hint: isDebug()
      ? 'Report this with the stack below.'
      : 'Run it again with PATINA_DEBUG=1 to see where it comes from, and report that.',
  };
}

function isDebug(): boolean {
  return (process.env['PATINA_DEBUG'] ?? '') !== '';
}
