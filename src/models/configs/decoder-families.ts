/**
 * The families of decoders, a row for each: how transformers reads and writes its configuration where that differs from the
 * others'. What they compute is one decoder (decoder.ts), which these traits describe.
 */

/** The decoders that there are, by transformers' `model_type`. */
export type DecoderFamily = 'llama' | 'mistral' | 'qwen2' | 'qwen3';

/** What families decide each in their own way. */
export interface DecoderTraits {
  readonly attentionBias: { readonly qkv: boolean; readonly out: boolean };
  readonly mlpBias: boolean;
  /** Whether queries and keys are normalised head by head before they are turned. */
  readonly qkNorm: boolean;
  /** Positions that a query looks back in some of the layers; `null` for all. */
  readonly slidingWindow: number | null;
}

/** The fields that say so, as any family's `config.json` has them. */
export interface TraitFields {
  attention_bias: boolean | null;
  mlp_bias: boolean;
  sliding_window: number | null;
  use_sliding_window: boolean;
  max_window_layers: number;
  num_hidden_layers: number;
  layer_types: readonly string[] | null;
}

interface HeadSizes {
  readonly headDim: number;
  readonly numAttentionHeads: number;
  readonly hiddenSize: number;
}

export interface FamilyRow {
  /** Of missing fields. */
  readonly defaults: {
    readonly vocab_size: number;
    readonly intermediate_size: number;
    readonly num_key_value_heads: number | null;
    readonly max_position_embeddings: number;
    /** Else the hidden size is divided among the heads. @default that */
    readonly head_dim?: number;
  };
  /** @param shown the biases that the weights show, which count where no field says */
  read(fields: TraitFields, shown: DecoderTraits['attentionBias']): DecoderTraits;
  /** The fields that `config.json` has beside those of all families. */
  write(config: DecoderTraits & HeadSizes): Record<string, unknown>;
  /** Fields that are written as they were found. */
  readonly handedOn: readonly string[];
  /** Of transformers' class, before `ForCausalLM`. */
  readonly architecture: string;
  /** The same decoder in the LLaVA of its authors: its `model_type`s, of which the first is written, and its class. */
  readonly official: { readonly types: readonly string[]; readonly architecture: string };
}

const NO_BIAS = { qkv: false, out: false };

export const DECODER_FAMILIES: Readonly<Record<DecoderFamily, FamilyRow>> = {
  llama: {
    defaults: {
      vocab_size: 32000,
      intermediate_size: 11008,
      num_key_value_heads: null,
      max_position_embeddings: 2048,
    },
    read: ({ attention_bias: stated, mlp_bias: mlpBias }, shown) => ({
      attentionBias: stated === null ? shown : { qkv: stated, out: stated },
      mlpBias,
      qkNorm: false,
      slidingWindow: null,
    }),
    write: ({ attentionBias, mlpBias, headDim }) => ({
      attention_bias: attentionBias.qkv,
      mlp_bias: mlpBias,
      head_dim: headDim,
    }),
    handedOn: ['pretraining_tp'],
    architecture: 'Llama',
    official: { types: ['llava_llama'], architecture: 'LlavaLlama' },
  },
  mistral: {
    defaults: {
      vocab_size: 32000,
      intermediate_size: 14336,
      num_key_value_heads: 8,
      max_position_embeddings: 131072,
    },
    read: ({ sliding_window }) => ({
      attentionBias: NO_BIAS,
      mlpBias: false,
      qkNorm: false,
      slidingWindow: sliding_window,
    }),
    write: ({ slidingWindow, headDim }) => ({ sliding_window: slidingWindow, head_dim: headDim }),
    handedOn: [],
    architecture: 'Mistral',
    official: { types: ['llava_mistral'], architecture: 'LlavaMistral' },
  },
  qwen2: {
    defaults: {
      vocab_size: 151936,
      intermediate_size: 22016,
      num_key_value_heads: 32,
      max_position_embeddings: 32768,
    },
    read: (fields) => ({
      attentionBias: { qkv: true, out: false },
      mlpBias: false,
      qkNorm: false,
      slidingWindow: slides(fields) ? fields.sliding_window : null,
    }),
    write: ({ headDim, numAttentionHeads, hiddenSize }) =>
      headDim * numAttentionHeads === hiddenSize ? {} : { head_dim: headDim },
    handedOn: ['use_sliding_window', 'sliding_window', 'max_window_layers', 'layer_types'],
    architecture: 'Qwen2',
    official: { types: ['llava_qwen', 'llava_qwen2'], architecture: 'LlavaQwen' },
  },
  qwen3: {
    defaults: {
      vocab_size: 151936,
      intermediate_size: 22016,
      num_key_value_heads: 32,
      max_position_embeddings: 32768,
      head_dim: 128,
    },
    read: (fields) => ({
      attentionBias: {
        qkv: fields.attention_bias === true,
        out: fields.attention_bias === true,
      },
      mlpBias: false,
      qkNorm: true,
      slidingWindow: slides(fields) ? fields.sliding_window : null,
    }),
    write: ({ attentionBias, headDim }) => ({
      attention_bias: attentionBias.qkv,
      head_dim: headDim,
    }),
    handedOn: ['use_sliding_window', 'sliding_window', 'max_window_layers', 'layer_types'],
    architecture: 'Qwen3',
    official: { types: ['llava_qwen3'], architecture: 'LlavaQwen3' },
  },
};

/** Whether some layer of a Qwen2 or Qwen3 has the window. */
function slides(fields: TraitFields): boolean {
  if (!fields.use_sliding_window) return false;
  return fields.layer_types === null
    ? fields.max_window_layers < fields.num_hidden_layers
    : fields.layer_types.includes('sliding_attention');
}

/** The family of a `model_type`, transformers' or the official LLaVA's; undefined where Patina computes no such decoder. */
export function familyOf(type: string): DecoderFamily | undefined {
  const families = Object.keys(DECODER_FAMILIES) as DecoderFamily[];
  return families.find(
    (family) => family === type || DECODER_FAMILIES[family].official.types.includes(type),
  );
}
