/**
 * The files that make a folder of weights a model: configuration, generation configuration, tokenizer, chat template, processor.
 * What the source holds wins; the parts beside it fill in.
 */
import { join } from 'node:path';

import { DataError } from '../../base/errors.js';
import { jsonText } from '../../base/json-text.js';
import { type JsonObject, readJsonObject } from '../../formats/small-file.js';
import type { DType } from '../../torch/index.js';
import type { LlavaConfig } from '../configs/llava-config.js';
import { type ImageProcessor, inMode } from '../configs/image-processor.js';
import { VISION_FAMILIES } from '../configs/vision-families.js';
import type { Assembly, TextAssembly } from '../load/assemble.js';
import { findImageProcessor, findTiledProcessor } from '../load/find-image-processor.js';
import { textFolders } from '../load/places.js';
import { IMAGE_PLACEHOLDER } from '../sample.js';
import { generationConfig } from './generation-json.js';
import {
  hfConfig,
  type Json,
  officialConfig,
  type RawConfigs,
  rawConfigs,
  textConfig,
  visionConfig,
} from './model-json.js';
import { findVideoProcessor, processorConfig } from './processor-json.js';
import { type Companion, configText } from './small-files.js';
import { TokenizerFiles } from './tokenizer-files.js';

/** New rows fill the vocabulary up to a multiple of this, which matrix products like. */
const MULTIPLE = 64;
/** Where an official LLaVA that Patina writes keeps its tower. */
export const OFFICIAL_TOWER = 'vision_tower';

export interface FileOptions {
  /** Type of the weights. */
  dtype: DType;
  /** What `config.json` says besides. @default nothing */
  more?: Json | undefined;
  /** The chat template to write. @default the one of the source, else of the decoder */
  chatTemplate?: string | undefined;
  /**
   * A template in place of one that gives pictures no place, or of none; it can ask for tokens.
   *
   * @default none: such a template stays
   */
  templateFor?: ((has: (token: string) => boolean) => string | undefined) | undefined;
  /** Folder of the tokenizer. @default the first of the source's that has one */
  tokenizer?: string | undefined;
  /** How pictures are prepared. @default as the source's files say */
  image?: ImageProcessor | undefined;
  /**
   * The token that ends an answer in a chat template, spoken with the tokenizer of a folder, for `generation_config.json`.
   *
   * @default none: ends stay as they are found
   */
  endOfTurn?: ((folder: string, template: string) => Promise<number | undefined>) | undefined;
}

export interface ModelFiles {
  readonly files: readonly Companion[];
  /** Rows of the vocabulary to add. */
  readonly newRows: number;
  /** What was decided on the way, a sentence each. */
  readonly notes: readonly string[];
}

/** A folder for transformers' `LlavaForConditionalGeneration`. @throws DataError `E_TOKENIZER_MISSING`, `E_IMAGE_TOKEN` */
export async function hfFiles(assembly: Assembly, options: FileOptions): Promise<ModelFiles> {
  const notes: string[] = [];
  const tokenizer = await findTokenizer(assembly, options);
  if (tokenizer === undefined) {
    throw new DataError('None of the folders has a tokenizer.json.', {
      code: 'E_TOKENIZER_MISSING',
      hint: 'Name the folder of the decoder with its tokenizer (--llm).',
    });
  }
  const raw = rawConfigs(assembly.configs);
  const imageToken = addImageToken(tokenizer, assembly.config);
  addPadding(tokenizer, raw);
  const { text } = assembly.config;
  const newRows =
    tokenizer.rows > text.vocabSize
      ? Math.ceil(tokenizer.rows / MULTIPLE) * MULTIPLE - text.vocabSize
      : 0;
  for (const { token, id } of tokenizer.added) notes.push(`The token ${token} was added as ${id}.`);
  if (newRows > 0) {
    notes.push(
      `The vocabulary grew from ${text.vocabSize} to ${text.vocabSize + newRows} rows; new rows were drawn around the mean of the old ones.`,
    );
  }
  const config: LlavaConfig = {
    ...assembly.config,
    imageTokenId: tokenizer.id(imageToken)!,
    text: { ...text, vocabSize: text.vocabSize + newRows },
  };
  const filled = withSpecialTokens(raw, tokenizer);
  const image = options.image ?? (await pictures(assembly, notes));
  const template = chatTemplate(tokenizer, imageToken, options, notes);
  const video = {
    processor: await findVideoProcessor(assembly),
    token: tokenizer.role('video_token'),
  };
  const files: Companion[] = [
    {
      name: 'config.json',
      content: configText({ ...hfConfig(config, filled, options.dtype), ...options.more }),
    },
    await generationFile(assembly, filled, await endOf(tokenizer, template, options)),
    {
      name: 'processor_config.json',
      content: configText(processorConfig(image, imageToken, config, video)),
    },
    ...tokenizer.companions(template),
  ];
  return { files, newRows, notes };
}

/** A folder for the code of LLaVA's authors; its tower lies in a folder of its own inside. */
export async function officialFiles(assembly: Assembly, options: FileOptions): Promise<ModelFiles> {
  const { config, configs } = assembly;
  const notes: string[] = [];
  const tokenizer = await findTokenizer(assembly, options);
  if (tokenizer === undefined) notes.push('No tokenizer was found; readers need one.');
  const raw = rawConfigs(configs);
  const filled = tokenizer === undefined ? raw : withSpecialTokens(raw, tokenizer);
  const image = options.image ?? (await pictures(assembly, notes));
  const template = options.chatTemplate ?? tokenizer?.template;
  const inTower = (name: string, json: Json): Companion => ({
    name: `${OFFICIAL_TOWER}/${name}`,
    content: configText(json),
  });
  const { dtype } = options;
  const official = officialConfig(config, filled, {
    dtype,
    tower: OFFICIAL_TOWER,
    mode: image.mode,
  });
  const files: Companion[] = [
    { name: 'config.json', content: configText(official) },
    await generationFile(assembly, filled, await endOf(tokenizer, template, options)),
    ...(tokenizer?.companions(template) ?? []),
    inTower('config.json', visionConfig(config.vision, raw, dtype)),
    // Padding is the model's own matter here, not the tower's.
    inTower('preprocessor_config.json', inMode(image, 'crop').json),
  ];
  return { files, newRows: 0, notes };
}

/** A folder for transformers' `LlamaForCausalLM` and its like. */
export async function textFiles(assembly: TextAssembly, options: FileOptions): Promise<ModelFiles> {
  const { config, configs } = assembly;
  const notes: string[] = [];
  const tokenizer = await findTokenizer(assembly, options);
  if (tokenizer === undefined) notes.push('No tokenizer was found; readers need one.');
  const raw = rawConfigs(configs);
  const filled = tokenizer === undefined ? raw : withSpecialTokens(raw, tokenizer);
  const template = options.chatTemplate ?? tokenizer?.template;
  const files: Companion[] = [
    {
      name: 'config.json',
      content: configText({ ...textConfig(config, filled, options.dtype), ...options.more }),
    },
    await generationFile(assembly, filled, await endOf(tokenizer, template, options)),
    ...(tokenizer?.companions(template) ?? []),
  ];
  return { files, newRows: 0, notes };
}

/**
 * What belongs beside weights that stand on others: how to speak to them. No token is added to the tokenizer.
 *
 * @param options with `isAlone` also a configuration, where nothing beneath has one
 */
export async function partFiles(
  assembly: Assembly | TextAssembly,
  { isAlone, ...options }: FileOptions & { isAlone: boolean },
): Promise<Companion[]> {
  const tokenizer = await findTokenizer(assembly, options);
  const raw = rawConfigs(assembly.configs);
  const filled = tokenizer === undefined ? raw : withSpecialTokens(raw, tokenizer);
  const template = options.chatTemplate ?? tokenizer?.template;
  const files = [
    await generationFile(assembly, filled, await endOf(tokenizer, template, options)),
    ...(tokenizer?.companions(template) ?? []),
  ];
  if (options.image !== undefined) {
    files.push({ name: 'preprocessor_config.json', content: jsonText(options.image.json) });
  }
  if (isAlone) {
    const config =
      assembly.kind === 'text'
        ? textConfig(assembly.config, filled, options.dtype)
        : hfConfig(assembly.config, filled, options.dtype);
    files.push({ name: 'config.json', content: configText(config) });
  }
  return files;
}

async function findTokenizer(
  { places }: Pick<Assembly, 'places'>,
  { tokenizer: named }: Pick<FileOptions, 'tokenizer'>,
): Promise<TokenizerFiles | undefined> {
  for (const folder of named === undefined ? textFolders(places) : [named]) {
    const tokenizer = await TokenizerFiles.read(folder);
    if (tokenizer !== undefined) return tokenizer;
  }
  return undefined;
}

/** The token in whose places features of pictures go. */
function addImageToken(tokenizer: TokenizerFiles, { imageTokenId: id }: LlavaConfig): string {
  const known = id < 0 ? undefined : tokenizer.token(id);
  if (known !== undefined) return known;
  if (id >= 0) {
    throw new DataError(`The image token ${id} is not in ${tokenizer.folder}/tokenizer.json.`, {
      code: 'E_IMAGE_TOKEN',
      hint: 'Put the tokenizer that the model was trained with beside its weights.',
    });
  }
  const token = tokenizer.role('image_token') ?? IMAGE_PLACEHOLDER;
  tokenizer.add(token);
  return token;
}

function addPadding(tokenizer: TokenizerFiles, { text }: RawConfigs): void {
  const role = tokenizer.role('pad_token');
  if (role !== undefined && tokenizer.id(role) !== undefined) return;
  const { pad_token_id: id } = text;
  const known = typeof id === 'number' ? tokenizer.token(id) : undefined;
  const token = known ?? role ?? '<pad>';
  tokenizer.add(token);
  tokenizer.setRole('pad_token', token);
}

/** Ids of the special tokens, where the configuration does not name them. */
function withSpecialTokens(raw: RawConfigs, tokenizer: TokenizerFiles): RawConfigs {
  const text: Json = { ...raw.text };
  for (const role of ['bos_token', 'eos_token', 'pad_token']) {
    const token = tokenizer.role(role);
    const id = token === undefined ? undefined : tokenizer.id(token);
    if (id !== undefined) text[`${role}_id`] ??= id;
  }
  return { ...raw, text };
}

async function pictures(assembly: Assembly, notes: string[]): Promise<ImageProcessor> {
  const { tiles, vision } = assembly.config;
  const found =
    tiles === null
      ? await findImageProcessor(assembly, vision)
      : await findTiledProcessor(assembly, tiles, vision);
  if (!found.isFound) {
    const how = found.mode === 'pad' ? 'padded to squares and prepared' : 'prepared';
    const { title } = VISION_FAMILIES[assembly.config.vision.family];
    notes.push(`No image processor was found: pictures are ${how} as ${title} prepares them.`);
  }
  return found;
}

/** The token that ends an answer in the template that is written. */
async function endOf(
  tokenizer: TokenizerFiles | undefined,
  template: string | undefined,
  { endOfTurn }: FileOptions,
): Promise<number | undefined> {
  if (tokenizer === undefined || template === undefined) return undefined;
  return endOfTurn?.(tokenizer.folder, template);
}

async function generationFile(
  { places }: Pick<Assembly, 'places'>,
  { text }: RawConfigs,
  end: number | undefined,
): Promise<Companion> {
  let found: JsonObject | undefined;
  for (const folder of textFolders(places)) {
    found ??= await readJsonObject(join(folder, 'generation_config.json'));
  }
  return {
    name: 'generation_config.json',
    content: configText(generationConfig(found, text, end)),
  };
}

/** A template that gives pictures a place asks for parts of the type `image`. */
const PLACES_IMAGES = /(['"])image\1/;

function chatTemplate(
  tokenizer: TokenizerFiles,
  imageToken: string,
  { chatTemplate: chosen, templateFor }: FileOptions,
  notes: string[],
): string | undefined {
  const found = chosen ?? tokenizer.template;
  if (chosen !== undefined || (found !== undefined && PLACES_IMAGES.test(found))) return found;
  const has = (token: string): boolean => tokenizer.id(token) !== undefined;
  const other = imageToken === IMAGE_PLACEHOLDER ? templateFor?.(has) : undefined;
  const fault =
    found === undefined ? 'There is no chat template' : 'The chat template gives pictures no place';
  if (other === undefined) {
    notes.push(`${fault}: give one that does (--chat-template).`);
    return found;
  }
  notes.push(`${fault}: one of the same form that does was written instead.`);
  return other;
}
