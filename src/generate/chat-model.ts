/** A model with everything that speaking to it takes: its chat format, how it sees pictures, which tokens end an answer. */
import { join } from 'node:path';

import { DataError } from '../base/errors.js';
import { type HubEvent, resolveModel } from '../base/hub/resolve.js';
import { loadFormat } from '../data/loading/load-format.js';
import { expandImages } from '../data/encode.js';
import type { FitMode } from '../data/image/fit.js';
import {
  assembleAny,
  type ImagePixels,
  type LanguageModel,
  loadAssembled,
  type LoadOptions,
} from '../models/index.js';
import type { ChatFormat, EncodeTextOptions, Message } from '../text/index.js';
import { type PictureSettings, usePictures } from './picture.js';
import type { Prompt } from './prompt.js';
import { modelBeneath, readJson, tokenizerFolder } from './tokenizer-folder.js';

export interface ChatModelOptions extends LoadOptions {
  /** A name, or the path of a Jinja file. @default the tokenizer's own */
  template?: string | undefined;
  /** Folder or hub name of the tokenizer. @default the first of model, base (given, or named by an adapter) and decoder that has one */
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
 * @throws those of `resolveModel`, `loadModel`, `loadTokenizer` and `createFormat`; DataError
 *   `E_TOKENIZER_MISSING`
 */
export async function loadChatModel(
  source: string,
  { template = 'auto', tokenizer, imageMode, onDownload, ...options }: ChatModelOptions = {},
): Promise<ChatModel> {
  const resolve = (name: string): Promise<string> =>
    resolveModel(name, { signal: options.signal, onProgress: onDownload });
  const path = await resolve(source);
  const base = options.base ?? (options.llm === undefined ? await modelBeneath(path) : undefined);
  const others = tokenizer === undefined ? [base, options.llm] : [];
  const folder = await tokenizerFolder([tokenizer ?? path, ...others], resolve);
  const assembly = await assembleAny(path, { resolve, ...options });
  const format = await loadFormat(folder, template, assembly.kind !== 'text');
  const stopTokens = new Set(await endTokens(base === undefined ? path : await resolve(base)));
  for (const id of [format.endOfTurn, format.tokenizer.eosId]) {
    if (id !== undefined) stopTokens.add(id);
  }
  const { model } = await loadAssembled(assembly, path, { resolve, ...options });
  try {
    const pictures = await usePictures(model, assembly, { mode: imageMode });
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

/** The `eos_token_id` of `generation_config.json`: one id or several. */
async function endTokens(folder: string): Promise<number[]> {
  const config = await readJson(join(folder, 'generation_config.json'));
  const ids = config?.['eos_token_id'];
  return [ids].flat().filter((id) => typeof id === 'number');
}
