/** A model with everything that speaking to it takes: its chat format, how it sees pictures, which tokens end an answer. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';

import { DataError } from '../base/errors.js';
import { type HubEvent, resolveModel } from '../base/hub/resolve.js';
import { loadFormat } from '../data/loading/load-format.js';
import { expandImages } from '../data/encode.js';
import type { FitMode } from '../data/image/fit.js';
import {
  type ImagePixels,
  type LanguageModel,
  loadLlava,
  loadTextModel,
  type LoadOptions,
} from '../models/index.js';
import type { ChatFormat, EncodeTextOptions, Message } from '../text/index.js';
import { type PictureSettings, readPictureSettings } from './picture.js';
import type { Prompt } from './prompt.js';

export interface ChatModelOptions extends LoadOptions {
  /** A name, or the path of a Jinja file. @default the tokenizer's own */
  template?: string | undefined;
  /** Folder or hub name of the tokenizer. @default the first of model, base and decoder that has one */
  tokenizer?: string | undefined;
  /** How pictures become squares. @default what the model's files say */
  imageMode?: FitMode | undefined;
  onDownload?: ((event: HubEvent) => void) | undefined;
}

export interface ChatModel {
  readonly model: LanguageModel;
  readonly format: ChatFormat;
  /** `null` for a model without a vision tower. */
  readonly pictures: PictureSettings | null;
  /** Ids that end an answer. */
  readonly stopTokens: readonly number[];
}

/**
 * Loads a LLaVA, or a decoder alone.
 *
 * @throws those of `resolveModel`, `loadLlava`, `loadTokenizer` and `createFormat`; DataError
 *   `E_TOKENIZER_MISSING`
 */
export async function loadChatModel(
  source: string,
  { template = 'auto', tokenizer, imageMode, onDownload, ...options }: ChatModelOptions = {},
): Promise<ChatModel> {
  const resolve = (name: string): Promise<string> =>
    resolveModel(name, { signal: options.signal, onProgress: onDownload });
  const path = await resolve(source);
  const others = tokenizer === undefined ? [options.base, options.llm] : [];
  const folder = await tokenizerFolder([tokenizer ?? path, ...others], resolve);
  const format = await loadFormat(folder, template);
  const stopTokens = new Set(await endTokens(path));
  for (const id of [format.endOfTurn, format.tokenizer.eosId]) {
    if (id !== undefined) stopTokens.add(id);
  }
  const load = (await isTextModel(path, options)) ? loadTextModel : loadLlava;
  const { model, assembly } = await load(path, { resolve, ...options });
  try {
    const { image } = model.input;
    const pictures =
      image === null
        ? null
        : await readPictureSettings(assembly, { size: image.size, mode: imageMode });
    return { model, format, pictures, stopTokens: [...stopTokens] };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/**
 * A conversation up to where the model answers.
 *
 * @param images of the messages, as their parts number them
 */
export function encodePrompt(
  { format, model }: Pick<ChatModel, 'format' | 'model'>,
  messages: readonly Message[],
  images: readonly ImagePixels[] = [],
  options: EncodeTextOptions = {},
): Prompt {
  const encoding = format.prompt(messages, options);
  const { image } = model.input;
  if (image === null && encoding.images.length > 0) throw noPictures();
  const { inputIds } = expandImages(
    { inputIds: Int32Array.from(encoding.ids), labels: Int32Array.from(encoding.labels) },
    { imageTokens: image?.tokens ?? 1, imageTokenId: image?.tokenId ?? 0 },
  );
  return { inputIds, images: encoding.images.map((number) => images[number]!) };
}

export function noPictures(): DataError {
  return new DataError('This model takes no pictures: it has no vision tower.', {
    code: 'E_NO_VISION',
    hint: 'Choose a LLaVA, or ask without pictures.',
  });
}

async function tokenizerFolder(
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
  return first!; // its loader says what is missing
}

/** The `eos_token_id` of `generation_config.json`: one id or several. */
async function endTokens(folder: string): Promise<number[]> {
  const config = await readJson(join(folder, 'generation_config.json'));
  const ids = config?.['eos_token_id'];
  return [ids].flat().filter((id) => typeof id === 'number');
}

/** Whether a folder holds a decoder alone, and no tower is named beside it. */
export async function isTextModel(
  folder: string,
  { vision }: Pick<LoadOptions, 'vision'> = {},
): Promise<boolean> {
  const config = await readJson(join(folder, 'config.json'));
  const type = config?.['model_type'];
  const alone = typeof type === 'string' && TEXT_TYPES.has(type);
  return alone && vision === undefined && config?.['mm_vision_tower'] === undefined;
}

const TEXT_TYPES: ReadonlySet<string> = new Set(['llama', 'mistral', 'qwen2']);

/** A JSON object of the folder; whoever needs the file complains about a broken one. */
async function readJson(file: string): Promise<Record<string, unknown> | undefined> {
  try {
    const json = JSON.parse(await readFile(file, 'utf8')) as unknown;
    return typeof json === 'object' && json !== null ? { ...json } : undefined;
  } catch {
    return undefined;
  }
}
