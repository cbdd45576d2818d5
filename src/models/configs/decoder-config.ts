/** The configuration of a decoder, of whichever family: Llama (Vicuna too), Mistral, Qwen2, Qwen3. */
import { z } from 'zod';

import type { RotaryOptions } from '../../nn/index.js';
import {
  DECODER_FAMILIES,
  type DecoderFamily,
  type DecoderTraits,
  familyOf,
  type FamilyRow,
} from './decoder-families.js';
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

export interface DecoderConfig extends DecoderTraits {
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
  /** Whether the embeddings are also the matrix to the vocabulary. */
  readonly tieWordEmbeddings: boolean;
  /** The row of the embeddings that gets no gradient from being looked up. */
  readonly paddingIndex: number | undefined;
  readonly maxPositionEmbeddings: number;
  /** Standard deviation of new weights. */
  readonly initializerRange: number;
}

const schema = (defaults: FamilyRow['defaults']) =>
  z.object({
    vocab_size: or(size, defaults.vocab_size),
    hidden_size: or(size, 4096),
    intermediate_size: or(size, defaults.intermediate_size),
    num_hidden_layers: or(layerCount, 32),
    num_attention_heads: or(size, 32),
    // Here null means as many as query heads, and only a missing field the family's default.
    num_key_value_heads: size.nullable().default(defaults.num_key_value_heads),
    head_dim: or(size, defaults.head_dim ?? null),
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
  const family = familyOf(type);
  if (family === undefined) {
    throw configError(
      source,
      'model_type',
      `"${type}" is no decoder that Patina computes`,
      `Use a model of one of the types ${Object.keys(DECODER_FAMILIES).join(', ')}.`,
    );
  }
  expectOneOf(source, 'attention_dropout', [0], 'drops attention weights, which Patina does not');
  refuseQuantised(source);
  const row = DECODER_FAMILIES[family];
  const fields = readFields(source, schema(row.defaults));
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
    ...row.read(fields, attentionBias),
    tieWordEmbeddings: fields.tie_word_embeddings,
    paddingIndex: paddingIndex(source, fields),
    maxPositionEmbeddings: fields.max_position_embeddings,
    initializerRange: fields.initializer_range,
  };
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
