/** Exporting a model that others speak to: what is written says where an answer ends in the chat template beside it. */
import { basename } from 'node:path';

import { DataError } from '../base/errors.js';
import { exportModel } from '../models/export/export-model.js';
import type { ExportLayout, ExportOptions, ExportReport } from '../models/export/export-options.js';
import { createFormat, loadTokenizer } from '../text/index.js';
import { ggufSpeech } from './gguf-speech.js';

/**
 * `exportModel` with the ends of turns: `eos_token_id` of `generation_config.json` contains the token that ends an answer in the
 * template that is written; GGUF files get vocabulary and template.
 *
 * @throws those of `exportModel`
 */
export function exportChatModel(
  source: string,
  layout: ExportLayout,
  folder: string,
  options: ExportOptions = {},
): Promise<ExportReport> {
  return exportModel(source, layout, folder, {
    endOfTurn: endOfTurnIn,
    speak: ggufSpeech,
    ...options,
  });
}

/**
 * The token that ends an answer, on which generation has to stop.
 *
 * @param folder of the tokenizer
 * @param template a Jinja template
 * @returns undefined where template and tokenizer do not say it, or cannot be read
 */
export async function endOfTurnIn(folder: string, template: string): Promise<number | undefined> {
  try {
    const name = `of ${basename(folder)}`;
    return createFormat(await loadTokenizer(folder), { template: { source: template, name } })
      .endOfTurn;
  } catch (error) {
    // An export takes tokenizers and templates that Patina cannot speak with.
    if (error instanceof DataError) return undefined;
    throw error;
  }
}
