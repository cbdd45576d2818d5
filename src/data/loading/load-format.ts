/** The chat format that a recipe names: of the tokenizer, by name, or from a Jinja file. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';

import { readJsonObject, readSmallText } from '../../formats/small-file.js';
import type { ChatFormat } from '../../text/chat-format.js';
import { createFormat } from '../../text/format.js';
import { loadTokenizer } from '../../text/load-tokenizer.js';
import { isXtunerFormat } from '../../text/xtuner-format.js';

/**
 * @param folder of the tokenizer
 * @param template `auto`, a name, or the path of a Jinja template
 * @param hasProcessor whether the model has one, as a LLaVA has; by default as the folder says
 * @throws UsageError and DataError as `loadTokenizer` and `createFormat` do
 */
export async function loadFormat(
  folder: string,
  template: string,
  hasProcessor?: boolean,
): Promise<ChatFormat> {
  const tokenizer = await loadTokenizer(folder);
  if (isXtunerFormat(template)) return createFormat(tokenizer, { template });
  hasProcessor ??= await isLlava(folder);
  if (template === 'auto') return createFormat(tokenizer, { hasProcessor });
  const source = await readSmallText(template);
  if (source === undefined) return createFormat(tokenizer, { template });
  const named = { source, name: basename(template) };
  return createFormat(tokenizer, { template: named, hasProcessor });
}

/** Whether the folder is that of a LLaVA, in transformers' layout or its authors'. */
async function isLlava(folder: string): Promise<boolean> {
  if (existsSync(join(folder, 'processor_config.json'))) return true;
  const config = await readJsonObject(join(folder, 'config.json'));
  return config !== undefined && ('vision_config' in config || 'mm_vision_tower' in config);
}
