/**
 * The configuration of a whole LLaVA: transformers' `LlavaConfig`, `LlavaNextConfig` or `LlavaOnevisionConfig`, the authors' own
 * (`mm_*`), or put together from parts.
 */
import { z } from 'zod';

import { type DecoderConfig, type DecoderHints, readDecoderConfig } from './decoder-config.js';
import { IMAGE_ID } from '../sample.js';
import type { TileFacts } from '../tiles.js';
import { officialProjectorDepth, type ProjectorConfig } from './projector-config.js';
import {
  activationName,
  configError,
  type ConfigSource,
  expectOneOf,
  jsonObject,
  or,
  readFields,
  refuseQuantised,
  within,
} from './read-config.js';
import { readTiles } from './tiles-config.js';
import { readVisionConfig, type VisionConfig } from './vision-config.js';
import { VISION_FAMILIES } from './vision-families.js';

export interface LlavaConfig {
  readonly vision: VisionConfig;
  /** Which hidden state of the tower is used: 0 the embeddings, i the result of block i - 1. */
  readonly featureLayer: number;
  readonly projector: ProjectorConfig;
  readonly text: DecoderConfig;
  /** The id that stands for one feature of a picture; outside of the vocabulary where none is set apart for it. */
  readonly imageTokenId: number;
  /** How a LLaVA-NeXT or LLaVA-OneVision cuts pictures; `null` where each is seen as one square. */
  readonly tiles: TileFacts | null;
}

/** Features of one picture: the patches, and the class token where the tower has one and the projector sees it. */
export function imageFeatures({
  vision: { family, imageSize, patchSize },
  projector: { select },
}: Pick<LlavaConfig, 'vision' | 'projector'>): number {
  const states =
    Math.floor(imageSize / patchSize) ** 2 + (VISION_FAMILIES[family].classToken ? 1 : 0);
  return select === 'full' ? states : states - 1;
}

/** What the projector sees where nothing says it: the patches. */
export function patchesOf({ family }: Pick<VisionConfig, 'family'>): ProjectorConfig['select'] {
  return VISION_FAMILIES[family].classToken ? 'default' : 'full';
}

/** The layer that XTuner always uses, and LLaVA-1.5. */
export const DEFAULT_FEATURE_LAYER = -2;

/** The tower of LLaVA-1.5, CLIP ViT-L/14 at 336 pixels: what transformers takes where a file names none. */
const DEFAULT_VISION = {
  hidden_size: 1024,
  intermediate_size: 4096,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  image_size: 336,
  patch_size: 14,
};

const selectStrategy = z.enum(['default', 'full']);
const featureLayer = z.union([z.number().int(), z.array(z.number().int())]);

/** LLaVA, and those that take pictures in tiles. */
const HF_TYPES = ['llava', 'llava_next', 'llava_onevision'] as const;

/** Whether a `config.json` is that of a LLaVA in transformers' form. */
export function isHfConfig(json: Readonly<Record<string, unknown>>): boolean {
  return HF_TYPES.some((type) => json['model_type'] === type) && !isOfficialConfig(json);
}

const TYPE = z.object({ model_type: z.enum(HF_TYPES, 'it is no LLaVA that Patina computes') });

/** What transformers takes where a file of the family does not say it. */
interface HfDefaults {
  /** Of a tower and a decoder that do not say what they are. */
  readonly types: { readonly vision: string; readonly text: string };
  readonly vision: Readonly<Record<string, unknown>>;
  readonly layer: number;
  readonly select: 'default' | 'full';
  readonly imageToken: number;
}

const LLAVA: HfDefaults = {
  types: { vision: 'clip_vision_model', text: 'llama' },
  vision: DEFAULT_VISION,
  layer: DEFAULT_FEATURE_LAYER,
  select: 'default',
  imageToken: 32000,
};

const HF_DEFAULTS: Readonly<Record<(typeof HF_TYPES)[number], HfDefaults>> = {
  llava: LLAVA,
  llava_next: LLAVA,
  llava_onevision: {
    types: { vision: 'siglip_vision_model', text: 'qwen2' },
    // Its tower is SigLIP's without the last layer, SO400M at 384 pixels.
    vision: {
      hidden_size: 1152,
      intermediate_size: 4304,
      num_hidden_layers: 26,
      num_attention_heads: 16,
      image_size: 384,
      patch_size: 14,
      vision_use_head: false,
    },
    layer: -1,
    select: 'full',
    imageToken: 151646,
  },
};

const hfSchema = (defaults: HfDefaults) =>
  z.object({
    vision_config: or(jsonObject, defaults.vision),
    text_config: or(jsonObject, {}),
    vision_feature_layer: or(featureLayer, defaults.layer),
    vision_feature_select_strategy: or(selectStrategy, defaults.select),
    projector_hidden_act: or(activationName, 'gelu'),
    multimodal_projector_bias: or(z.boolean(), true),
    tie_word_embeddings: or(z.boolean(), false),
    image_token_index: or(z.number().int(), null),
    image_token_id: or(z.number().int(), null),
  });

/**
 * transformers' `config.json` of a `LlavaForConditionalGeneration`, a `LlavaNextForConditionalGeneration` or a
 * `LlavaOnevisionForConditionalGeneration`.
 *
 * @throws ConfigError `E_CONFIG`
 */
export function readLlavaConfig(source: ConfigSource): LlavaConfig {
  const { model_type: type } = readFields(source, TYPE);
  const defaults = HF_DEFAULTS[type];
  const fields = readFields(source, hfSchema(defaults));
  refuseQuantised(source);
  const part = (field: 'vision_config' | 'text_config', ofType: string): ConfigSource =>
    within(source, field, { model_type: ofType, ...fields[field] });
  const vision = readVisionConfig(part('vision_config', defaults.types.vision));
  const text = readDecoderConfig(part('text_config', defaults.types.text));
  const tiles = type === 'llava' ? null : readTiles(source, type, vision);
  const { vision_feature_select_strategy: select } = fields;
  if (tiles !== null && select !== patchesOf(vision)) {
    const reason = `"${select}" does not give the patches alone, of which rows of tiles are made`;
    throw configError(source, 'vision_feature_select_strategy', reason);
  }
  return {
    vision,
    tiles,
    featureLayer: resolveFeatureLayer(
      source,
      'vision_feature_layer',
      fields.vision_feature_layer,
      vision,
    ),
    projector: {
      visualHiddenSize: vision.hiddenSize,
      textHiddenSize: text.hiddenSize,
      depth: 2,
      bias: fields.multimodal_projector_bias,
      hiddenAct: fields.projector_hidden_act,
      select: fields.vision_feature_select_strategy,
    },
    text: { ...text, tieWordEmbeddings: text.tieWordEmbeddings || fields.tie_word_embeddings },
    imageTokenId: fields.image_token_index ?? fields.image_token_id ?? defaults.imageToken,
  };
}

const OFFICIAL = z.object({
  model_type: or(z.string(), 'llava_llama'),
  mm_vision_tower: or(z.string(), null),
  mm_projector_type: or(z.string(), 'linear'),
  mm_hidden_size: or(z.number().int(), null),
  mm_vision_select_layer: featureLayer,
  mm_vision_select_feature: or(z.enum(['patch', 'cls_patch']), 'patch'),
});

/** Whether a `config.json` is that of the authors' LLaVA, which keeps the decoder's fields at the top. */
export function isOfficialConfig(json: unknown): boolean {
  return typeof json === 'object' && json !== null && 'mm_vision_tower' in json;
}

/** Where the authors' LLaVA finds its tower: a path relative to its folder, or a name on the hub. */
export function officialVisionTower(source: ConfigSource): string | null {
  return readFields(source, OFFICIAL).mm_vision_tower;
}

/** What the weights of the authors' LLaVA show and its `config.json` does not say. */
export interface OfficialHints extends Omit<DecoderHints, 'modelType'> {
  /** @default true */
  projectorBias?: boolean;
  /** Whether queries and keys are normalised, as a Qwen3's alone are. @default false */
  qkNorm?: boolean;
}

/**
 * The authors' `config.json`, with the configuration of the tower that it names.
 *
 * @param hints about the decoder, whose fields such files often take from another family, and the projector
 * @throws ConfigError `E_CONFIG`
 */
export function readOfficialConfig(
  source: ConfigSource,
  vision: VisionConfig,
  { projectorBias = true, qkNorm = false, ...hints }: OfficialHints = {},
): LlavaConfig {
  const fields = readFields(source, OFFICIAL);
  // Version 1 called its type `llava` before transformers took the name.
  const named = fields.model_type === 'llava' ? 'llava_llama' : fields.model_type;
  const modelType = qkNorm ? 'qwen3' : named;
  const text = readDecoderConfig(source, { ...hints, modelType });
  expectOneOf(source, 'mm_patch_merge_type', ['flat'], 'arranges tiles, which Patina does not');
  expectOneOf(source, 'image_aspect_ratio', ['pad', 'square'], 'cuts pictures into tiles');
  if (fields.mm_hidden_size !== null && fields.mm_hidden_size !== vision.hiddenSize) {
    throw configError(
      source,
      'mm_hidden_size',
      `${fields.mm_hidden_size} is not the tower's hidden size, ${vision.hiddenSize}`,
      'Give the vision tower that this model was trained with.',
    );
  }
  return {
    vision,
    featureLayer: resolveFeatureLayer(
      source,
      'mm_vision_select_layer',
      fields.mm_vision_select_layer,
      vision,
    ),
    projector: {
      visualHiddenSize: vision.hiddenSize,
      textHiddenSize: text.hiddenSize,
      depth: officialProjectorDepth(source, fields.mm_projector_type),
      bias: projectorBias,
      hiddenAct: 'gelu',
      select: fields.mm_vision_select_feature === 'patch' ? patchesOf(vision) : 'full',
    },
    text,
    // The vocabularies of XTuner and the authors' LLaVA hold no token for a picture.
    imageTokenId: IMAGE_ID,
    tiles: null,
  };
}

/** Counts a layer from the embeddings, 0, up; negative ones count from the last hidden state, -1, down. */
function resolveFeatureLayer(
  source: ConfigSource,
  field: string,
  given: number | number[],
  { numHiddenLayers }: VisionConfig,
): number {
  const layers = typeof given === 'number' ? [given] : given;
  const [layer] = layers;
  if (layer === undefined || layers.length > 1) {
    throw configError(source, field, `[${layers.join(', ')}] is not one layer`);
  }
  return featureLayerIndex(layer, numHiddenLayers, (reason) => configError(source, field, reason));
}

/** The hidden state, from 0 to the number of blocks, that a layer means. */
export function featureLayerIndex(
  layer: number,
  blocks: number,
  fail: (reason: string) => Error,
): number {
  const index = layer < 0 ? layer + blocks + 1 : layer;
  if (!Number.isInteger(index) || index < 0 || index > blocks) {
    throw fail(`the tower of ${blocks} layers has no hidden state ${layer}`);
  }
  return index;
}
