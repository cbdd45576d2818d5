/** A model with everything that speaking to it takes: its chat format, how it sees pictures, which tokens end an answer. */
import { join } from 'node:path';

import { type HubEvent, resolveModel } from '../base/hub/resolve.js';
import { loadFormat } from '../data/loading/load-format.js';
import { expandImages } from '../data/encode.js';
import type { FitMode } from '../data/image/fit.js';
import type { Reading } from '../data/image/rgb-image.js';
import {
  type Assembly,
  assembleAny,
  type ImagePixels,
  imageTokensOf,
  type LanguageModel,
  loadAssembled,
  type Loaded,
  type LoadOptions,
  type TextAssembly,
  textFolders,
} from '../models/index.js';
import type { ChatFormat, EncodeTextOptions, Message } from '../text/index.js';
import { expectUsed } from './expect-used.js';
import { type ChooseMode, noPictures, type PictureSettings, usePictures } from './picture.js';
import type { Prompt } from './prompt.js';
import { firstWith, readJson } from './tokenizer-folder.js';

export interface ChatModelOptions extends LoadOptions {
  /** A name, or the path of a Jinja file. @default what a checkpoint was trained with, else the tokenizer's own */
  template?: string | undefined;
  /** Folder or hub name of the tokenizer. @default the first of adapters, model, and what they stand on that has one */
  tokenizer?: string | undefined;
  /** How pictures become squares. @default what the model's files say */
  imageMode?: FitMode | ChooseMode | undefined;
  onDownload?: ((event: HubEvent) => void) | undefined;
}

export interface ChatModel {
  readonly model: LanguageModel;
  readonly format: ChatFormat;
  /** `null` for a model without a vision tower. */
  readonly pictures: PictureSettings | null;
  /** Ids that end an answer. */
  readonly stopTokens: readonly number[];
  /** What conversations begin with, where a checkpoint was trained so. */
  readonly system?: string | undefined;
  /** How a checkpoint was trained to read the pixels of files. */
  readonly reading?: Reading | undefined;
}

/** A model from files. */
export interface LoadedChatModel extends ChatModel {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  readonly loaded: Loaded<LanguageModel, Assembly | TextAssembly>;
}

/**
 * Loads a LLaVA, or a decoder alone. A checkpoint is spoken to as it was trained, unless options say otherwise.
 *
 * @throws UsageError `E_UNUSED_CHOICE`; those of `resolveModel`, `loadModel`, `loadTokenizer` and `createFormat`; DataError
 *   `E_TOKENIZER_MISSING`
 */
export async function loadChatModel(
  source: string,
  { template, tokenizer, imageMode, onDownload, ...options }: ChatModelOptions = {},
): Promise<LoadedChatModel> {
  const resolve = (name: string): Promise<string> =>
    resolveModel(name, { signal: options.signal, onDownload });
  const path = await resolve(source);
  const assembly = await assembleAny(path, { resolve, ...options });
  const { featureLayer, select: featureSelect, projectorDepth } = options;
  const config = assembly.kind === 'text' ? undefined : assembly.config;
  expectUsed(config, { featureLayer, featureSelect, projectorDepth });
  const { text, image } = assembly.provenance ?? {};
  const folders = textFolders(assembly.places);
  // One that is named on purpose stands for itself.
  const folder =
    tokenizer === undefined ? await firstWith('tokenizer.json', folders) : await resolve(tokenizer);
  const chosen = template ?? text?.template ?? 'auto';
  const format = await loadFormat(folder, chosen, assembly.kind !== 'text');
  const stopTokens = new Set(await endTokens(folders));
  for (const id of [format.endOfTurn, format.tokenizer.eosId]) {
    if (id !== undefined) stopTokens.add(id);
  }
  const loaded = await loadAssembled(assembly, path, { resolve, ...options });
  const { model } = loaded;
  try {
    return {
      model,
      format,
      pictures: await usePictures(model, assembly, { mode: imageMode, trained: image?.mode }),
      stopTokens: [...stopTokens],
      system: text?.system ?? undefined,
      reading: image?.reading,
      tokenizer: folder,
      loaded,
    };
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
  const pictures = encoding.images.map((number) => images[number]!);
  const { inputIds } = expandImages(
    { inputIds: Int32Array.from(encoding.ids), labels: Int32Array.from(encoding.labels) },
    {
      imageTokens: pictures.map((pixels) => imageTokensOf(pixels, pictures.length, image!)),
      imageTokenId: image?.tokenId ?? 0,
    },
  );
  return { inputIds, images: pictures };
}

/** The `eos_token_id` of the first `generation_config.json`: one id or several. */
async function endTokens(folders: readonly string[]): Promise<number[]> {
  const file = 'generation_config.json';
  const config = await readJson(join(await firstWith(file, folders), file));
  const ids = config?.['eos_token_id'];
  return [ids].flat().filter((id) => typeof id === 'number');
}
