/**
 * Configurations as the readers of a layout expect them, from Patina's own: transformers' `config.json` and that of LLaVA's authors.
 * Every field that Patina computes with is written out, so that nothing depends on a reader's defaults.
 */
import { DataError } from '../../base/errors.js';
import { isJsonObject } from '../../formats/strict-json.js';
import type { RotaryScaling } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import type { DecoderConfig } from '../configs/decoder-config.js';
import { DECODER_FAMILIES, type DecoderFamily } from '../configs/decoder-families.js';
import type { ImageProcessor } from '../configs/image-processor.js';
import {
  imageFeatures,
  isHfConfig,
  isOfficialConfig,
  type LlavaConfig,
} from '../configs/llava-config.js';
import {
  aspectField,
  pinpointsField,
  TILED_FAMILIES,
  tiledFamilyOf,
} from '../configs/tiles-config.js';
import type { VisionConfig } from '../configs/vision-config.js';
import { towerType, VISION_FAMILIES, visionFamilyOf } from '../configs/vision-families.js';
import type { ConfigFile } from '../load/config-file.js';

/** A JSON object that may still be added to. */
export type Json = Record<string, unknown>;

/** The version of transformers whose spelling is written; without one its tokenizers suspect an old file. */
export const TRANSFORMERS_VERSION = '5.17.0';

/** What the files said of the parts, for the fields that Patina does not compute with. */
export interface RawConfigs {
  readonly text: Readonly<Json>;
  readonly vision: Readonly<Json>;
  /** Of the whole model, around these; empty where nothing is. */
  readonly whole: Readonly<Json>;
}

/** Fields of a decoder, a whole LLaVA and a tower that are handed on as they were found. */
const TEXT_FIELDS = ['bos_token_id', 'eos_token_id', 'pad_token_id', 'use_cache'];
const WHOLE_FIELDS = ['video_token_index'];
const VISION_FIELDS = ['initializer_factor', 'initializer_range', 'projection_dim'];

/** The decoder's and the tower's own objects, wherever the files keep them. */
export function rawConfigs(configs: readonly ConfigFile[]): RawConfigs {
  const all = configs.map(({ json }) => json);
  const llava = all.find(isHfConfig);
  const tower = all.find(({ model_type: type }) => visionFamilyOf(type) !== undefined);
  const official = all.find(isOfficialConfig);
  const other = all.find((json) => json !== tower && json['model_type'] !== 'projector');
  const inside = (json: Readonly<Json> | undefined, field: string): Readonly<Json> | undefined =>
    isJsonObject(json?.[field]) ? json[field] : undefined;
  return {
    text: (llava === undefined ? (official ?? other) : inside(llava, 'text_config')) ?? {},
    vision:
      (llava === undefined
        ? (inside(tower, 'vision_config_dict') ?? inside(tower, 'vision_config') ?? tower)
        : inside(llava, 'vision_config')) ?? {},
    whole: llava ?? {},
  };
}

/**
 * `config.json` of transformers' `LlavaForConditionalGeneration`, or of `LlavaNextForConditionalGeneration` or
 * `LlavaOnevisionForConditionalGeneration` where pictures come in tiles.
 *
 * @throws DataError `E_LAYOUT_LIMIT`
 */
export function hfConfig(config: LlavaConfig, raw: RawConfigs, dtype: DType): Json {
  const { vision, projector, text, tiles } = config;
  if (projector.depth !== 2) {
    throw limit(
      `a projector of ${projector.depth} layers`,
      'transformers computes two',
      'official',
    );
  }
  const family = tiles === null ? 'llava' : tiledFamilyOf(tiles);
  const stem = family === 'llava' ? 'Llava' : TILED_FAMILIES[family].stem;
  return {
    architectures: [`${stem}ForConditionalGeneration`],
    dtype,
    ...(tiles?.max === undefined
      ? { image_seq_length: imageFeatures(config) }
      : { ...aspectField(tiles.max), ...pick(raw.whole, WHOLE_FIELDS) }),
    image_token_index: config.imageTokenId,
    model_type: family,
    ...(tiles !== null && pinpointsField(tiles.pinpoints)),
    multimodal_projector_bias: projector.bias,
    projector_hidden_act: projector.hiddenAct,
    text_config: { ...decoderConfig(text, raw.text), rope_parameters: rope(text) },
    tie_word_embeddings: text.tieWordEmbeddings,
    transformers_version: TRANSFORMERS_VERSION,
    vision_config: towerConfig(vision, raw.vision),
    vision_feature_layer: featureLayer(config),
    vision_feature_select_strategy: projector.select,
  };
}

/** `config.json` of a decoder alone. */
export function textConfig(config: DecoderConfig, raw: RawConfigs, dtype: DType): Json {
  const json = decoderConfig(config, raw.text);
  return {
    ...json,
    rope_parameters: rope(config),
    architectures: [`${DECODER_FAMILIES[writtenFamily(config)].architecture}ForCausalLM`],
    dtype,
    transformers_version: TRANSFORMERS_VERSION,
  };
}

/** `config.json` of the tower alone. */
export function visionConfig(config: VisionConfig, raw: RawConfigs, dtype: DType): Json {
  return {
    ...towerConfig(config, raw.vision),
    architectures: [VISION_FAMILIES[config.family].architecture],
    dtype,
    transformers_version: TRANSFORMERS_VERSION,
  };
}

/**
 * `config.json` of LLaVA's authors, whose code runs on transformers 4 and so knows the old names alone.
 *
 * @param tower where the vision tower lies: a path relative to the folder, or a name on the hub
 * @param mode how pictures become squares
 * @throws DataError `E_LAYOUT_LIMIT`
 */
export function officialConfig(
  config: LlavaConfig,
  raw: RawConfigs,
  { dtype, tower, mode }: { dtype: DType; tower: string; mode: ImageProcessor['mode'] },
): Json {
  const { projector, text, vision, tiles } = config;
  if (vision.family !== 'clip') {
    const { title } = VISION_FAMILIES[vision.family];
    throw limit(`a ${title} tower`, 'the official code knows CLIP alone', 'hf');
  }
  if (tiles !== null) {
    throw limit(
      'pictures in tiles',
      'Patina writes models that take them as transformers alone reads them',
      'hf',
    );
  }
  if (mode === 'squeeze') {
    throw limit(
      'pictures that are squeezed into squares',
      'the official code pads or crops them',
      'hf',
    );
  }
  if (!projector.bias)
    throw limit('a projector without bias', 'the official code always adds one', 'hf');
  if (projector.hiddenAct !== 'gelu') {
    throw limit(`a projector with ${projector.hiddenAct}`, 'the official code computes gelu', 'hf');
  }
  const { scaling, theta } = text.rotary;
  const { official } = DECODER_FAMILIES[writtenFamily(text)];
  return {
    ...decoderConfig(text, raw.text),
    rope_theta: theta,
    rope_scaling:
      scaling === undefined || scaling.type === 'default' ? null : scalingFields(scaling),
    architectures: [`${official.architecture}ForCausalLM`],
    model_type: official.types[0],
    torch_dtype: dtype,
    image_aspect_ratio: mode === 'pad' ? 'pad' : 'square',
    mm_hidden_size: vision.hiddenSize,
    mm_projector_type: projector.depth === 1 ? 'linear' : `mlp${projector.depth}x_gelu`,
    mm_use_im_patch_token: false,
    mm_use_im_start_end: false,
    mm_vision_select_feature: projector.select === 'full' ? 'cls_patch' : 'patch',
    mm_vision_select_layer: featureLayer(config),
    mm_vision_tower: tower,
    use_mm_proj: true,
  };
}

/** The official LLaVA calls a Qwen2 a Llama; transformers has no Llama with biases of queries, keys and values alone. */
function writtenFamily({ family, attentionBias: { qkv, out } }: DecoderConfig): DecoderFamily {
  return family === 'llama' && qkv && !out ? 'qwen2' : family;
}

function decoderConfig(config: DecoderConfig, raw: Readonly<Json>): Json {
  const { qkv, out } = config.attentionBias;
  const family = writtenFamily(config);
  if (family === 'llama' && qkv !== out) {
    throw limit('a decoder that adds a bias to the output of attention alone', 'none is known');
  }
  const row = DECODER_FAMILIES[family];
  return {
    attention_dropout: 0,
    hidden_act: config.hiddenAct,
    hidden_size: config.hiddenSize,
    initializer_range: config.initializerRange,
    intermediate_size: config.intermediateSize,
    max_position_embeddings: config.maxPositionEmbeddings,
    model_type: family,
    num_attention_heads: config.numAttentionHeads,
    num_hidden_layers: config.numHiddenLayers,
    num_key_value_heads: config.numKeyValueHeads,
    rms_norm_eps: config.rmsNormEps,
    tie_word_embeddings: config.tieWordEmbeddings,
    vocab_size: config.vocabSize,
    ...pick(raw, TEXT_FIELDS),
    ...row.write(config),
    // The files of a Llama do not speak of what another family has.
    ...(family === config.family && pick(raw, row.handedOn)),
  };
}

function towerConfig(config: VisionConfig, raw: Readonly<Json>): Json {
  return {
    attention_dropout: 0,
    hidden_act: config.hiddenAct,
    hidden_size: config.hiddenSize,
    image_size: config.imageSize,
    intermediate_size: config.intermediateSize,
    layer_norm_eps: config.layerNormEps,
    model_type: towerType(config.family),
    num_attention_heads: config.numAttentionHeads,
    num_channels: config.numChannels,
    num_hidden_layers: config.numHiddenLayers,
    patch_size: config.patchSize,
    ...pick(raw, VISION_FIELDS),
    ...(VISION_FAMILIES[config.family].canPool && { vision_use_head: config.poolingHead }),
  };
}

function rope({ rotary: { theta, scaling } }: DecoderConfig): Json {
  return { rope_theta: theta, ...scalingFields(scaling ?? { type: 'default' }) };
}

function scalingFields(scaling: RotaryScaling): Json {
  switch (scaling.type) {
    case 'default':
      return { rope_type: 'default' };
    case 'linear':
      return { rope_type: 'linear', factor: scaling.factor };
    case 'llama3':
      return {
        rope_type: 'llama3',
        factor: scaling.factor,
        low_freq_factor: scaling.lowFreqFactor,
        high_freq_factor: scaling.highFreqFactor,
        original_max_position_embeddings: scaling.originalMaxPositionEmbeddings,
      };
  }
}

/** Counted from the last hidden state, -1, down: what every reader takes. */
function featureLayer({ featureLayer: layer, vision }: LlavaConfig): number {
  return layer - vision.numHiddenLayers - 1;
}

/** Also what is `null`, as transformers writes it. */
function pick(json: Readonly<Json>, fields: readonly string[]): Json {
  const there = fields.filter((field) => json[field] !== undefined);
  return Object.fromEntries(there.map((field) => [field, json[field]]));
}

/** @param other the layout that holds it, if any does */
function limit(what: string, why: string, other?: 'hf' | 'official'): DataError {
  return new DataError(`This layout cannot hold ${what}: ${why}.`, {
    code: 'E_LAYOUT_LIMIT',
    hint:
      other === undefined
        ? 'Keep the files as they are: no layout that is written holds it.'
        : `Write the other layout: --to ${other}.`,
  });
}
