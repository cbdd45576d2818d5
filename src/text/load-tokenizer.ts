/**
 * Reads a tokenizer from a model's folder, as transformers writes it: `tokenizer.json` with
 * `tokenizer_config.json`, `special_tokens_map.json`, `processor_config.json` (the image token), and the
 * chat template from `chat_template.jinja`, else `chat_template.json`, else the configuration.
 */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { DataError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';
import { isObject } from './json.js';
import { Tokenizer } from './tokenizer.js';

/** A whole vocabulary of 256,000 tokens takes 34 MB; a template is a page. */
const LARGEST_FILE = 256 * 2 ** 20;
const LARGEST_TEMPLATE = 2 ** 20;

/**
 * Loads the tokenizer of a folder.
 *
 * Throws E_TOKENIZER_MISSING without a `tokenizer.json`, E_TOKENIZER_BROKEN and E_TOKENIZER_UNSUPPORTED as
 * `Tokenizer` does.
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer> {
  const tokenizer = await readJson(join(folder, 'tokenizer.json'));
  if (tokenizer === undefined) {
    throw new DataError(`${folder} has no tokenizer.json.`, {
      code: 'E_TOKENIZER_MISSING',
      hint: 'Name the folder of a model with a tokenizer.json; a tokenizer.model alone must be converted first (AutoTokenizer.from_pretrained(...).save_pretrained(...)).',
    });
  }
  const [config, specialTokensMap, processor, template, templateJson] = await Promise.all([
    readJson(join(folder, 'tokenizer_config.json')),
    readJson(join(folder, 'special_tokens_map.json')),
    readJson(join(folder, 'processor_config.json')),
    readText(join(folder, 'chat_template.jinja'), LARGEST_TEMPLATE),
    readJson(join(folder, 'chat_template.json')),
  ]);
  const imageToken = isObject(processor) ? processor['image_token'] : undefined;
  const jsonTemplate = isObject(templateJson) ? templateJson['chat_template'] : undefined;
  return new Tokenizer({
    tokenizer,
    config,
    specialTokensMap,
    chatTemplate: template ?? (typeof jsonTemplate === 'string' ? jsonTemplate : undefined),
    imageToken: typeof imageToken === 'string' && imageToken !== '' ? imageToken : undefined,
  });
}

async function readJson(path: string): Promise<unknown> {
  const text = await readText(path, LARGEST_FILE);
  if (text === undefined) return undefined;
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new DataError(`${path} is not JSON: ${(cause as Error).message}.`, {
      code: 'E_TOKENIZER_BROKEN',
      hint: 'Fetch the file again from where the model came from.',
      cause,
    });
  }
}

/** A file's text, undefined where there is none. */
async function readText(path: string, largest: number): Promise<string | undefined> {
  try {
    const file = await stat(path);
    const { size } = file;
    if (!file.isFile()) throw new Error('it is no regular file'); // a pipe would be waited for
    if (size > largest) {
      throw new DataError(`${path} has ${size} bytes, more than the ${largest} that are read.`, {
        code: 'E_TOKENIZER_BROKEN',
        hint: 'Fetch the file again from where the model came from.',
      });
    }
    return await readFile(path, 'utf8');
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    if (errorCode(cause) === 'ENOENT' || errorCode(cause) === 'ENOTDIR') return undefined;
    throw new DataError(`${path} cannot be read: ${(cause as Error).message}.`, {
      code: 'E_TOKENIZER_BROKEN',
      hint: 'Check that the file is readable.',
      cause,
    });
  }
}
