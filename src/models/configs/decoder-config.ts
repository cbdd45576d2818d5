/** The configuration of a decoder: Llama (Vicuna too), Mistral, Qwen2, with the defaults of transformers for each. */
import { z } from 'zod';

import type { RotaryOptions } from '../../nn/index.js';
import {
  activationName,
  configError,
  type ConfigSource,
  count,
  expectOneOf,
  layerCount,
  or,
  readFields,
  refuseQuantised,
  size,
} from './read-config.js';
import { readRotary } from './rotary-config.js';

/** The decoders that there are, by transformers' `model_type`. */
export type DecoderFamily = 'llama' | 'mistral' | 'qwen2';

export interface DecoderConfig {
  readonly family: DecoderFamily;
  readonly vocabSize: number;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  /** Heads of keys and values, each shared by a group of query heads. */
  readonly numKeyValueHeads: number;
  readonly headDim: number;
  readonly hiddenAct: string;
  readonly rmsNormEps: number;
  readonly rotary: RotaryOptions;
  readonly attentionBias: { readonly qkv: boolean; readonly out: boolean };
  readonly mlpBias: boolean;
  /** Whether the embeddings are also the matrix to the vocabulary. */
  readonly tieWordEmbeddings: boolean;
  /** The row of the embeddings that gets no gradient from being looked up. */
  readonly paddingIndex: number | undefined;
  /** Positions that a query looks back in some of the layers; `null` for all. */
  readonly slidingWindow: number | null;
  readonly maxPositionEmbeddings: number;
  /** Standard deviation of new weights. */
  readonly initializerRange: number;
}

interface FamilyDefaults {
  vocab_size: number;
  intermediate_size: number;
  num_key_value_heads: number | null;
  max_position_embeddings: number;
}

const FAMILIES: Readonly<Record<DecoderFamily, FamilyDefaults>> = {
  llama: {
    vocab_size: 32000,
    intermediate_size: 11008,
    num_key_value_heads: null,
    max_position_embeddings: 2048,
  },
  mistral: {
    vocab_size: 32000,
    intermediate_size: 14336,
    num_key_value_heads: 8,
    max_position_embeddings: 131072,
  },
  qwen2: {
    vocab_size: 151936,
    intermediate_size: 22016,
    num_key_value_heads: 32,
    max_position_embeddings: 32768,
  },
};

const schema = (defaults: FamilyDefaults) =>
  z.object({
    vocab_size: or(size, defaults.vocab_size),
    hidden_size: or(size, 4096),
    intermediate_size: or(size, defaults.intermediate_size),
    num_hidden_layers: or(layerCount, 32),
    num_attention_heads: or(size, 32),
    // Here null means as many as query heads, and only a missing field the family's default.
    num_key_value_heads: size.nullable().default(defaults.num_key_value_heads),
    head_dim: or(size, null),
    hidden_act: or(activationName, 'silu'),
    rms_norm_eps: or(z.number().positive(), 1e-6),
    max_position_embeddings: or(count, defaults.max_position_embeddings),
    initializer_range: or(z.number().positive(), 0.02),
    tie_word_embeddings: or(z.boolean(), false),
    attention_bias: or(z.boolean(), null),
    mlp_bias: or(z.boolean(), false),
    pad_token_id: or(z.number().int(), null),
    sliding_window: count.nullable().default(4096),
    use_sliding_window: or(z.boolean(), false),
    max_window_layers: or(z.number().int().nonnegative(), 28),
    layer_types: or(z.array(z.string()), null),
  });

type Fields = z.output<ReturnType<typeof schema>>;

/** What other `model_type`s hold the same decoder: the official LLaVA's. */
const ALIASES: Readonly<Record<string, DecoderFamily>> = {
  llava_llama: 'llama',
  llava_mistral: 'mistral',
  llava_qwen: 'qwen2',
  llava_qwen2: 'qwen2',
};

export interface DecoderHints {
  /** What to believe instead of the field `model_type`, whose default is `llama`. */
  modelType?: string;
  /** Whether a Llama has biases, where no field says. @default neither */
  attentionBias?: DecoderConfig['attentionBias'];
}

/** @throws ConfigError `E_CONFIG` for an unknown decoder, or one that computes what Patina's does not */
export function readDecoderConfig(
  source: ConfigSource,
  { modelType, attentionBias = { qkv: false, out: false } }: DecoderHints = {},
): DecoderConfig {
  const named = readFields(source, z.object({ model_type: or(z.string(), 'llama') }));
  const type = modelType ?? named.model_type;
  const family = isFamily(type) ? type : Object.hasOwn(ALIASES, type) ? ALIASES[type]! : undefined;
  if (family === undefined) {
    throw configError(
      source,
      'model_type',
      `"${type}" is no decoder that Patina computes`,
      `Use a model of one of the types ${Object.keys(FAMILIES).join(', ')}.`,
    );
  }
  expectOneOf(source, 'attention_dropout', [0], 'drops attention weights, which Patina does not');
  refuseQuantised(source);
  const fields = readFields(source, schema(FAMILIES[family]));
  const heads = headShape(source, fields);
  return {
    family,
    vocabSize: fields.vocab_size,
    hiddenSize: fields.hidden_size,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    ...heads,
    hiddenAct: fields.hidden_act,
    rmsNormEps: fields.rms_norm_eps,
    rotary: readRotary(source, fields.max_position_embeddings),
    attentionBias: biases(family, fields.attention_bias, attentionBias),
    mlpBias: family === 'llama' && fields.mlp_bias,
    tieWordEmbeddings: fields.tie_word_embeddings,
    paddingIndex: paddingIndex(source, fields),
    slidingWindow: slidingWindow(family, fields),
    maxPositionEmbeddings: fields.max_position_embeddings,
    initializerRange: fields.initializer_range,
  };
}

function biases(
  family: DecoderFamily,
  stated: boolean | null,
  hint: DecoderConfig['attentionBias'],
): DecoderConfig['attentionBias'] {
  switch (family) {
    case 'llama':
      return stated === null ? hint : { qkv: stated, out: stated };
    case 'mistral':
      return { qkv: false, out: false };
    case 'qwen2':
      return { qkv: true, out: false };
  }
}

function isFamily(type: string): type is DecoderFamily {
  return Object.hasOwn(FAMILIES, type);
}

function headShape(
  source: ConfigSource,
  fields: Fields,
): Pick<DecoderConfig, 'numAttentionHeads' | 'numKeyValueHeads' | 'headDim'> {
  const { hidden_size: hidden, num_attention_heads: heads } = fields;
  const groups = fields.num_key_value_heads ?? heads;
  if (heads % groups !== 0) {
    throw configError(source, 'num_key_value_heads', `${groups} does not divide ${heads} heads`);
  }
  if (fields.head_dim === null && hidden % heads !== 0) {
    throw configError(
      source,
      'num_attention_heads',
      `${heads} does not divide hidden_size ${hidden}`,
    );
  }
  const headDim = fields.head_dim ?? hidden / heads;
  if (headDim % 2 !== 0) {
    throw configError(source, 'head_dim', `${headDim} is odd, and rotary positions turn pairs`);
  }
  return { numAttentionHeads: heads, numKeyValueHeads: groups, headDim };
}

/** As PyTorch's `Embedding` takes it: negative ids count from the end. */
function paddingIndex(source: ConfigSource, fields: Fields): number | undefined {
  const { pad_token_id: id, vocab_size: size } = fields;
  if (id === null) return undefined;
  if (id < -size || id >= size) {
    throw configError(source, 'pad_token_id', `${id} is outside of a vocabulary of ${size}`);
  }
  return id < 0 ? id + size : id;
}

function slidingWindow(family: DecoderFamily, fields: Fields): number | null {
  const { sliding_window: window, layer_types: types } = fields;
  switch (family) {
    case 'llama':
      return null;
    case 'mistral':
      return window;
    case 'qwen2': {
      if (!fields.use_sliding_window) return null;
      const slides =
        types === null
          ? fields.max_window_layers < fields.num_hidden_layers
          : types.includes('sliding_attention');
      return slides ? window : null;
    }
  }
}
