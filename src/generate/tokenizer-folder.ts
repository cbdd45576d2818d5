/** Where the tokenizer of a model lies, also that of an adapter, which has none beside it. */
import { stat } from 'node:fs/promises';
import { join, resolve as resolvePath } from 'node:path';

import { type JsonObject, readJsonObject } from '../formats/small-file.js';

/** The first of these folders that has a file of this name; the first of all if none has it. */
export async function firstWith(name: string, folders: readonly string[]): Promise<string> {
  for (const folder of folders) {
    const found = await stat(join(folder, name)).catch(() => undefined);
    if (found?.isFile() === true) return folder;
  }
  return folders[0]!;
}

/** The first of these that has a tokenizer; the first of all if none has, whose loader says what is missing. */
export async function tokenizerFolder(
  names: readonly (string | undefined)[],
  resolve: (name: string) => Promise<string>,
): Promise<string> {
  let first: string | undefined;
  for (const name of names) {
    if (name === undefined) continue;
    const folder = await resolve(name);
    first ??= folder;
    const found = await stat(join(folder, 'tokenizer.json')).catch(() => undefined);
    if (found?.isFile() === true) return folder;
  }
  return first!;
}

/** The model that an adapter's folder names: relative to that folder if it leads somewhere, else on the hub. */
export async function modelBeneath(folder: string): Promise<string | undefined> {
  const config = await readJson(join(folder, 'adapter_config.json'));
  const name = config?.['base_model_name_or_path'];
  if (typeof name !== 'string' || name === '') return undefined;
  const path = resolvePath(folder, name);
  return (await stat(path).catch(() => undefined)) === undefined ? name : path;
}

/** A JSON object of the folder; whoever needs the file complains about a broken one. */
export async function readJson(file: string): Promise<JsonObject | undefined> {
  return readJsonObject(file).catch(() => undefined);
}
