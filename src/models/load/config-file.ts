/** A model's `config.json` from disk. */
import { type JsonObject, readJsonObject } from '../../formats/small-file.js';
import type { ConfigSource } from '../configs/read-config.js';

/** A JSON object and the file that it comes from. */
export interface ConfigFile extends ConfigSource {
  readonly json: JsonObject;
}

/** @returns undefined where there is no such file. @throws DataError `E_JSON` */
export async function readConfigFile(file: string): Promise<ConfigFile | undefined> {
  const json = await readJsonObject(file);
  return json === undefined ? undefined : { file, json };
}
