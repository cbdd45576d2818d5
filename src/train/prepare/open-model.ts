/** The model that a recipe starts from, with its tokenizer, chat format and picture settings: loaded from files, or new. */

import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { resolveModel, type HubEvent } from '../../base/hub/resolve.js';
import { jsonText } from '../../base/json-text.js';
import type { Recipe } from '../../config/index.js';
import { loadFormat } from '../../data/index.js';
import { readJsonObject } from '../../formats/small-file.js';
import {
  expectUsed,
  loadChatModel,
  modelBeneath,
  tokenizerFolder,
  usePictures,
  type ChatModel,
} from '../../generate/index.js';
import {
  configKind,
  generationConfig,
  Llava,
  readDecoderConfig,
  readLlavaConfig,
  TextModel,
  type LanguageModel,
} from '../../models/index.js';
import type { Companion } from '../../models/export/small-files.js';
import { kernelsFor, Linear } from '../../nn/index.js';
import { RandomGenerator, type Device, type DType } from '../../torch/index.js';
import { weightsIn } from '../run/run-weights.js';

export interface OpenedModel extends ChatModel {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  /** What an adapter that is trained here stands on; `undefined` for a new model. */
  readonly base: string | undefined;
  /** Files that make the weights of the whole model a folder that can be loaded. */
  readonly companions: readonly Companion[];
}

export interface OpenModelOptions {
  readonly device: Device;
  readonly dtype: DType;
  readonly signal?: AbortSignal | undefined;
  /** Is told how far downloads from the hub are. */
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
}

/**
 * @throws those of `loadChatModel`; ConfigError `E_CONFIG` for `model.config`
 */
export async function openModel(recipe: Recipe, options: OpenModelOptions): Promise<OpenedModel> {
  const opened =
    recipe.model.config === undefined
      ? await loadModel(recipe, options)
      : await newModel(recipe, recipe.model.config, options);
  foldAdapters(opened.model, recipe.train);
  return opened;
}

async function newModel(
  { model, text, image, seed }: Recipe,
  json: Record<string, unknown>,
  { device, dtype, signal, onDownload }: OpenModelOptions,
): Promise<OpenedModel> {
  const tokenizer = await resolveModel(model.tokenizer!, { signal, onDownload });
  const source = { file: 'model.config', json };
  const hasTower = configKind(source) !== 'decoder';
  const format = await loadFormat(tokenizer, text.template, hasTower);
  const build = { dtype, kernels: kernelsFor({ device, dtype }) };
  const made: LanguageModel = hasTower
    ? new Llava(readLlavaConfig(source), build)
    : new TextModel(readDecoderConfig(source), build);
  try {
    expectUsed(made instanceof Llava ? made.config : undefined, {
      featureLayer: model.featureLayer,
      featureSelect: model.featureSelect,
      projectorDepth: model.projectorDepth,
    });
    const generator = RandomGenerator.create(seed, device);
    made.initialize(device, { generator, std: made.decoder.config.initializerRange });
    generator.dispose();
    const stopTokens = endsOf(format);
    return {
      model: made,
      format,
      pictures: await usePictures(made, tokenizer, { mode: image.mode }),
      stopTokens,
      tokenizer,
      base: undefined,
      companions: [
        { name: 'config.json', content: jsonText(json) },
        // Whoever loads a checkpoint elsewhere is to know where an answer ends.
        { name: 'generation_config.json', content: jsonText({ eos_token_id: stopTokens }) },
        ...(await companionsIn(tokenizer, CONFIGS)),
      ],
    };
  } catch (error) {
    made.dispose();
    throw error;
  }
}

async function loadModel(
  { model, text, image, seed }: Recipe,
  { device, dtype, signal, onDownload }: OpenModelOptions,
): Promise<OpenedModel> {
  const check = { thorough: true, signal };
  const from = await weightsIn(model.from, check);
  const llm = await weightsIn(model.llm, check);
  const vision = await weightsIn(model.vision, check);
  const projector = await weightsIn(model.projector, check);
  const adapter = await weightsIn(model.adapter, check);
  const resolve = (name: string): Promise<string> => resolveModel(name, { signal, onDownload });
  const source = await resolve((from ?? llm)!);
  const tokenizer = await tokenizerFolder(
    // One that is named on purpose stands for itself.
    model.tokenizer === undefined ? [source, llm, await modelBeneath(source)] : [model.tokenizer],
    resolve,
  );
  const chat = await loadChatModel(source, {
    device,
    dtype,
    adapterDtype: dtype,
    tokenizer,
    template: text.template,
    imageMode: image.mode,
    llm: from === undefined ? undefined : llm,
    vision,
    projector,
    adapters: adapter === undefined ? [] : [adapter],
    featureLayer: model.featureLayer,
    select: model.featureSelect,
    projectorDepth: model.projectorDepth,
    // Parts that are put together have no projector yet.
    allow: vision !== undefined && projector === undefined ? ['model.multi_modal_projector.*'] : [],
    seed,
    signal,
    resolve,
  });
  try {
    const pictures =
      vision === undefined
        ? chat.pictures
        : await usePictures(chat.model, await resolve(vision), { mode: image.mode });
    const isWhole = vision === undefined && projector === undefined;
    return {
      ...chat,
      pictures,
      tokenizer,
      base: from ?? llm,
      companions: isWhole
        ? await withEnds(await companionsIn(source), source, chat.format)
        : await companionsIn(tokenizer, CONFIGS),
    };
  } catch (error) {
    chat.model.dispose();
    throw error;
  }
}

const CONFIGS = ['config.json', 'generation_config.json'];

/** What lies beside a model's weights. */
const COMPANIONS = [
  ...CONFIGS,
  'tokenizer.json',
  'tokenizer_config.json',
  'tokenizer.model',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
  'chat_template.json',
  'preprocessor_config.json',
  'processor_config.json',
];

async function companionsIn(folder: string, but: readonly string[] = []): Promise<Companion[]> {
  const there = new Set(await readdir(folder).catch(() => []));
  return COMPANIONS.filter((name) => there.has(name) && !but.includes(name)).map((name) => ({
    name,
    content: { path: join(folder, name) },
  }));
}

/** The files of a model's folder, with answers ending where the run teaches them to. */
async function withEnds(
  files: readonly Companion[],
  folder: string,
  { endOfTurn }: ChatModel['format'],
): Promise<Companion[]> {
  const name = 'generation_config.json';
  const found = await readJsonObject(join(folder, name));
  const config = (await readJsonObject(join(folder, 'config.json'))) ?? {};
  const text = (config['text_config'] ?? config) as Record<string, unknown>;
  const content = jsonText(generationConfig(found, text, endOfTurn));
  return [...files.filter((file) => file.name !== name), { name, content }];
}

function endsOf({ endOfTurn, tokenizer }: ChatModel['format']): number[] {
  return [...new Set([endOfTurn, tokenizer.eosId].filter((id) => id !== undefined))];
}

/** Adapters that came with the model become part of the weights where their part does not train by LoRA. */
function foldAdapters(model: LanguageModel, train: Recipe['train']): void {
  const byLora = new Set<string>();
  for (const segment of [...model.segments, model.head]) {
    if (typeof train[segment.part] !== 'object') continue;
    for (const name of segment.parameters().keys()) byLora.add(name);
  }
  for (const [name, module] of model.namedModules()) {
    if (module instanceof Linear && !byLora.has(`${name}.weight`)) module.mergeAdapter();
  }
}
