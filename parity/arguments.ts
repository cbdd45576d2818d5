/**
 * The arguments of a parity runner: one folder or file, `--out DIR`, and the runner's own options.
 */
import { parseArgs, type ParseArgsConfig } from 'node:util';

import { UsageError } from '../src/base/errors.js';

type Options = NonNullable<ParseArgsConfig['options']>;

/**
 * Parses `argv` strictly.
 *
 * @throws UsageError `E_USAGE` for an unknown option or a missing or second path
 */
export function parityArguments<const T extends Options>(
  argv: string[],
  kind: string,
  options: T,
): { path: string; values: Values<T> } {
  const hint = 'Run `npm run parity -- --help`.';
  const config = { args: argv, options, allowPositionals: true, strict: true } as const;
  let parsed;
  try {
    parsed = parseArgs(config);
  } catch (cause) {
    const message = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`parity ${kind}: ${message}`, { code: 'E_USAGE', hint, cause });
  }
  const [path, ...more] = parsed.positionals;
  if (path === undefined || more.length > 0) {
    const count = parsed.positionals.length;
    throw new UsageError(`parity ${kind} takes one path and was given ${count}.`, {
      code: 'E_USAGE',
      hint,
    });
  }
  return { path, values: parsed.values };
}

type Values<T extends Options> = ReturnType<
  typeof parseArgs<{ args: string[]; options: T; allowPositionals: true; strict: true }>
>['values'];
