/**
 * The index of sharded weights (`model.safetensors.index.json`, `pytorch_model.bin.index.json`): which tensor lies in which
 * file of the same folder.
 */
import { basename } from 'node:path';

import { DataError } from '../base/errors.js';
import { openSource } from './source.js';
import { brief, isJsonObject, parseStrictJson } from './strict-json.js';

/** Far more than the index of any model. */
const MAX_BYTES = 256 * 2 ** 20;

/**
 * Reads an index as tensor name -> file name.
 *
 * @throws DataError E_WEIGHT_INDEX, E_JSON, E_FILE_MISSING
 */
export async function readWeightIndex(path: string): Promise<ReadonlyMap<string, string>> {
  const source = await openSource(path);
  let content: unknown;
  try {
    if (source.size > MAX_BYTES) throw bad(path, `it has ${source.size} bytes`);
    content = parseStrictJson(await source.read(0, source.size), path);
  } finally {
    await source.close();
  }
  const map = isJsonObject(content) ? content['weight_map'] : undefined;
  if (!isJsonObject(map)) throw bad(path, 'it has no object "weight_map"');
  const files = new Map<string, string>();
  for (const [name, file] of Object.entries(map)) {
    // A plain name: an index may not lead out of its folder.
    const isPlain =
      typeof file === 'string' && file === basename(file) && !/^\.*$|[\\\0]/.test(file);
    if (!isPlain) {
      throw bad(path, `${brief(name)} lies in ${brief(file)}`);
    }
    files.set(name, file);
  }
  return files;
}

function bad(path: string, what: string): DataError {
  return new DataError(`${path} is not a sound index of weights: ${what}.`, {
    code: 'E_WEIGHT_INDEX',
    hint: 'Download or copy the file again.',
  });
}
