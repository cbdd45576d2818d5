/** A folder's `facts.json`: what a reference says about its inputs and its answers, each of which may be absent. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { z } from 'zod';

import { DataError } from '../src/base/errors.js';
import { errorCode } from '../src/base/system-error.js';

/** A fact that may be missing or null, which is the same. */
export function maybe<S extends z.ZodType>(schema: S): z.ZodType<z.output<S> | undefined> {
  return schema.nullish().transform((value) => value ?? undefined);
}

/**
 * The facts of a folder; undefined where there is no such file.
 *
 * @throws DataError `E_PARITY_FILES` for a file of another shape
 */
export async function readFacts<S extends z.ZodType>(
  folder: string,
  schema: S,
): Promise<z.output<S> | undefined> {
  const file = join(folder, 'facts.json');
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return undefined;
    throw unexpectedFile(file, 'it cannot be read as JSON', cause);
  }
  const parsed = schema.safeParse(content);
  if (parsed.success) return parsed.data;
  throw unexpectedFile(file, z.prettifyError(parsed.error), parsed.error);
}

/** The refusal of a file that is not as the runner needs it. */
export function unexpectedFile(file: string, reason: string, cause?: unknown): DataError {
  return new DataError(`${file}: ${reason}.`, {
    code: 'E_PARITY_FILES',
    hint: 'Name a folder of the shape of test/fixtures/llava/llama3.',
    cause,
  });
}
