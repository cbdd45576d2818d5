/** What a GGUF file says of the language: vocabulary, chat template, where an answer ends; and the same in Ollama's form. */
import type { GgufSpeaker } from '../models/index.js';
import { gguf, type GgufValue } from '../formats/gguf/types.js';
import { ggufVocabulary, ollamaTemplate } from '../text/index.js';
import { endOfTurnIn } from './export-chat-model.js';
import { readByLlamaCpp } from './llama-cpp.js';

/** @throws DataError `E_TOKENIZER_UNSUPPORTED`, `E_TOKENIZER_BROKEN` */
export const ggufSpeech: GgufSpeaker = async (folder, rows, { chatTemplate, templateFor }) => {
  const { tokenizer, metadata, notes } = await ggufVocabulary(folder, rows);
  const probe = (file: string): Promise<readonly string[]> => readByLlamaCpp(file, tokenizer);
  const has = (token: string): boolean => tokenizer.idOf(token) !== undefined;
  const template = chatTemplate ?? tokenizer.chatTemplate ?? templateFor?.(has);
  if (template === undefined) {
    const missing = 'There is no chat template: give one (--chat-template).';
    return { metadata, modelfile: [], probe, notes: [...notes, missing] };
  }
  const end = await endOfTurnIn(folder, template);
  const entries: [string, GgufValue][] = [['tokenizer.chat_template', gguf.string(template)]];
  if (end !== undefined && end < rows) {
    entries.unshift(['tokenizer.ggml.eot_token_id', gguf.uint32(end)]);
  }
  const ollama = ollamaTemplate(template, tokenizer.namedTokens);
  const stop = end === undefined ? undefined : tokenizer.tokenOf(end);
  const modelfile = [
    ...(ollama === undefined ? [] : [`TEMPLATE """${ollama.template}"""`]),
    ...(ollama?.system === undefined ? [] : [`SYSTEM """${ollama.system}"""`]),
    ...(stop === undefined ? [] : [`PARAMETER stop ${JSON.stringify(stop)}`]),
  ];
  const unfit = 'The chat template does not fit into a Modelfile: Ollama chooses one by itself.';
  return {
    metadata: new Map([...metadata, ...entries]),
    modelfile,
    probe,
    notes: [...notes, ...(ollama === undefined ? [unfit] : [])],
  };
};
