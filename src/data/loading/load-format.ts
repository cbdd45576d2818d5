/** The chat format that a recipe names: of the tokenizer, by name, or from a Jinja file. */
import { basename } from 'node:path';

import { readSmallText } from '../../formats/small-file.js';
import type { ChatFormat } from '../../text/chat-format.js';
import { createFormat } from '../../text/format.js';
import { loadTokenizer } from '../../text/load-tokenizer.js';
import { isXtunerFormat } from '../../text/xtuner-format.js';

/**
 * @param folder of the tokenizer
 * @param template `auto`, a name, or the path of a Jinja template
 * @throws UsageError and DataError as `loadTokenizer` and `createFormat` do
 */
export async function loadFormat(folder: string, template: string): Promise<ChatFormat> {
  const tokenizer = await loadTokenizer(folder);
  if (template === 'auto') return createFormat(tokenizer);
  if (isXtunerFormat(template)) return createFormat(tokenizer, { template });
  const source = await readSmallText(template);
  if (source === undefined) return createFormat(tokenizer, { template });
  return createFormat(tokenizer, { template: { source, name: basename(template) } });
}
