/** Files that are read as a whole: configurations, templates, tokenizers. */
import { DataError } from '../base/errors.js';
import { openSource } from './source.js';
import { isJsonObject, parseStrictJson } from './strict-json.js';

/** A JSON object as it was read. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** A vocabulary of 256,000 tokens takes 34 MB. */
const MAX_BYTES = 256 * 2 ** 20;

/** @returns undefined where there is no such file. @throws DataError `E_FILE_TOO_LARGE`, `E_NOT_A_FILE` */
async function readSmallFile(path: string): Promise<Uint8Array | undefined> {
  try {
    const source = await openSource(path);
    try {
      if (source.size <= MAX_BYTES) return await source.read(0, source.size);
      throw new DataError(`${path} has ${source.size} bytes, over the limit of ${MAX_BYTES}.`, {
        code: 'E_FILE_TOO_LARGE',
        hint: 'Fetch the file again from where the model came from.',
      });
    } finally {
      await source.close();
    }
  } catch (error) {
    if (error instanceof DataError && error.code === 'E_FILE_MISSING') return undefined;
    throw error;
  }
}

/** The text of a file; undefined where there is none. */
export async function readSmallText(path: string): Promise<string | undefined> {
  const bytes = await readSmallFile(path);
  return bytes === undefined ? undefined : new TextDecoder().decode(bytes);
}

/** The object in a file; undefined where there is none. @throws DataError `E_JSON` */
export async function readJsonObject(path: string): Promise<JsonObject | undefined> {
  const bytes = await readSmallFile(path);
  if (bytes === undefined) return undefined;
  const value = parseStrictJson(bytes, path);
  if (isJsonObject(value)) return value;
  throw new DataError(`${path} is not a JSON object.`, {
    code: 'E_JSON',
    hint: 'Correct the file, or download it again.',
  });
}
