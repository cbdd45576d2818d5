/** Shapes of models that the built-in recipes name, from their `config.json`: planning for them needs no network and no files. */

const CLIP_L_336 = {
  model_type: 'clip_vision_model',
  ...{ hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24 },
  ...{ num_attention_heads: 16, image_size: 336, patch_size: 14 },
  ...{ hidden_act: 'quick_gelu', layer_norm_eps: 1e-5 },
};

const SIGLIP_SO400M_384 = {
  model_type: 'siglip_vision_model',
  ...{ hidden_size: 1152, intermediate_size: 4304, num_hidden_layers: 27 },
  ...{ num_attention_heads: 16, image_size: 384, patch_size: 14 },
  ...{ hidden_act: 'gelu_pytorch_tanh', layer_norm_eps: 1e-6 },
};

const LLAMA_3_8B = {
  model_type: 'llama',
  ...{ hidden_size: 4096, intermediate_size: 14336, num_hidden_layers: 32 },
  ...{ num_attention_heads: 32, num_key_value_heads: 8, vocab_size: 128256 },
  ...{ max_position_embeddings: 8192, rms_norm_eps: 1e-5, rope_theta: 500000 },
};

const VICUNA_7B = {
  model_type: 'llama',
  ...{ hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32 },
  ...{ num_attention_heads: 32, num_key_value_heads: 32, vocab_size: 32000 },
  ...{ max_position_embeddings: 4096, rms_norm_eps: 1e-5, rope_theta: 10000 },
};

/** Qwen2's and Qwen2.5's. */
const QWEN2_7B = {
  model_type: 'qwen2',
  ...{ hidden_size: 3584, intermediate_size: 18944, num_hidden_layers: 28 },
  ...{ num_attention_heads: 28, num_key_value_heads: 4, vocab_size: 152064 },
  ...{ max_position_embeddings: 32768, rms_norm_eps: 1e-6, rope_theta: 1e6 },
};

const QWEN3_8B = {
  model_type: 'qwen3',
  ...{ hidden_size: 4096, intermediate_size: 12288, num_hidden_layers: 36, head_dim: 128 },
  ...{ num_attention_heads: 32, num_key_value_heads: 8, vocab_size: 151936 },
  ...{ max_position_embeddings: 40960, rms_norm_eps: 1e-6, rope_theta: 1e6 },
};

const QWEN15_7B = {
  model_type: 'qwen2',
  ...{ hidden_size: 4096, intermediate_size: 11008, num_hidden_layers: 32 },
  ...{ num_attention_heads: 32, num_key_value_heads: 32, vocab_size: 152000 },
  ...{ max_position_embeddings: 32768, rms_norm_eps: 1e-6, rope_theta: 1e6 },
};

const QWEN2_05B = {
  model_type: 'qwen2',
  ...{ hidden_size: 896, intermediate_size: 4864, num_hidden_layers: 24 },
  ...{ num_attention_heads: 14, num_key_value_heads: 2, vocab_size: 151936 },
  ...{ max_position_embeddings: 32768, rms_norm_eps: 1e-6, rope_theta: 1e6 },
  tie_word_embeddings: true,
};

/** One layer fewer than its tower had, whose last state they so read. */
const OVER_SIGLIP = {
  ...{
    vision_feature_layer: -1,
    vision_feature_select_strategy: 'full',
    image_token_index: 151646,
  },
  vision_config: { ...SIGLIP_SO400M_384, num_hidden_layers: 26, vision_use_head: false },
};

const LLAVA_INTERLEAVE_7B = { model_type: 'llava', ...OVER_SIGLIP, text_config: QWEN15_7B };

/** Resolutions and their limit are those that transformers takes where a file names none. */
const LLAVA_ONEVISION = { model_type: 'llava_onevision', ...OVER_SIGLIP };

export const KNOWN_MODELS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'openai/clip-vit-large-patch14-336': CLIP_L_336,
  'meta-llama/Meta-Llama-3-8B-Instruct': LLAMA_3_8B,
  'meta-llama/Meta-Llama-3-8B': LLAMA_3_8B,
  'lmsys/vicuna-7b-v1.5': VICUNA_7B,
  'google/siglip-so400m-patch14-384': SIGLIP_SO400M_384,
  'Qwen/Qwen2-7B-Instruct': QWEN2_7B,
  'Qwen/Qwen2.5-7B-Instruct': QWEN2_7B,
  'Qwen/Qwen3-8B': QWEN3_8B,
  'llava-hf/llava-interleave-qwen-7b-hf': LLAVA_INTERLEAVE_7B,
  'llava-hf/llava-onevision-qwen2-7b-ov-hf': {
    ...LLAVA_ONEVISION,
    text_config: { ...QWEN2_7B, vocab_size: 152128 },
  },
  'llava-hf/llava-onevision-qwen2-0.5b-ov-hf': {
    ...LLAVA_ONEVISION,
    text_config: { ...QWEN2_05B, vocab_size: 152000 },
  },
};
