/** The chat format that a recipe names: of the tokenizer, by name, or from a Jinja file. */
import { existsSync } from 'node:fs';
import { basename, join } from 'node:path';

import { readJsonObject, readSmallText } from '../../formats/small-file.js';
import type { ChatFormat } from '../../text/chat-format.js';
import { createFormat } from '../../text/format.js';
import { loadTokenizer } from '../../text/load-tokenizer.js';
import { isXtunerFormat } from '../../text/xtuner-format.js';

/** A template by its name: of XTuner's formats with `null`, else with its Jinja source. */
export interface TemplateChoice {
  readonly name: string;
  readonly source: string | null;
}

/**
 * @param folder of the tokenizer
 * @param template `auto`, a name, the path of a Jinja template, or what `chooseTemplate` made of one of these
 * @param hasProcessor whether the model has one, as a LLaVA has; by default as the folder says
 * @throws UsageError and DataError as `loadTokenizer` and `createFormat` do
 */
export async function loadFormat(
  folder: string,
  template: string | TemplateChoice,
  hasProcessor?: boolean,
): Promise<ChatFormat> {
  const tokenizer = await loadTokenizer(folder);
  if (template === 'auto') {
    return createFormat(tokenizer, { hasProcessor: hasProcessor ?? (await isLlava(folder)) });
  }
  const { name, source } = typeof template === 'string' ? await namedTemplate(template) : template;
  if (source === null) return createFormat(tokenizer, { template: name });
  const named = { source, name: basename(name) };
  hasProcessor ??= await isLlava(folder);
  return createFormat(tokenizer, { template: named, hasProcessor });
}

/** What a template's name stands for, so that it can be kept. @returns undefined where the tokenizer has none */
export async function chooseTemplate(
  { tokenizer }: Pick<ChatFormat, 'tokenizer'>,
  template: string,
): Promise<TemplateChoice | undefined> {
  if (template !== 'auto') return namedTemplate(template);
  const { chatTemplate: source } = tokenizer;
  return source === undefined ? undefined : { name: 'of the tokenizer', source };
}

async function namedTemplate(name: string): Promise<TemplateChoice> {
  return { name, source: isXtunerFormat(name) ? null : ((await readSmallText(name)) ?? null) };
}

/** Whether the folder is that of a LLaVA, in transformers' layout or its authors'. */
async function isLlava(folder: string): Promise<boolean> {
  if (existsSync(join(folder, 'processor_config.json'))) return true;
  const config = await readJsonObject(join(folder, 'config.json'));
  return config !== undefined && ('vision_config' in config || 'mm_vision_tower' in config);
}
