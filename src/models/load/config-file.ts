/** A model's `config.json` from disk. */
import { DataError } from '../../base/errors.js';
import { openSource } from '../../formats/source.js';
import { isJsonObject, parseStrictJson } from '../../formats/strict-json.js';
import { ConfigError, type ConfigSource } from '../configs/read-config.js';

/** Far more than any configuration. */
const MAX_BYTES = 16 * 2 ** 20;

/** A JSON object and the file that it comes from. */
export interface ConfigFile extends ConfigSource {
  readonly json: Readonly<Record<string, unknown>>;
}

/** @returns undefined where there is no such file. @throws ConfigError `E_CONFIG`, DataError `E_JSON` */
export async function readConfigFile(file: string): Promise<ConfigFile | undefined> {
  try {
    const source = await openSource(file);
    try {
      if (source.size <= MAX_BYTES) {
        const json = parseStrictJson(await source.read(0, source.size), file);
        if (isJsonObject(json)) return { file, json };
      }
    } finally {
      await source.close();
    }
  } catch (error) {
    if (error instanceof DataError && error.code === 'E_FILE_MISSING') return undefined;
    throw error;
  }
  throw new ConfigError(`${file} is no configuration: it is not a JSON object.`, {
    code: 'E_CONFIG',
    hint: 'Correct the file, or download it again.',
  });
}
