/** Shapes of models that the built-in recipes name, from their `config.json`: planning for them needs no network and no files. */

const CLIP_L_336 = {
  model_type: 'clip_vision_model',
  ...{ hidden_size: 1024, intermediate_size: 4096, num_hidden_layers: 24 },
  ...{ num_attention_heads: 16, image_size: 336, patch_size: 14 },
  ...{ hidden_act: 'quick_gelu', layer_norm_eps: 1e-5 },
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

export const KNOWN_MODELS: Readonly<Record<string, Readonly<Record<string, unknown>>>> = {
  'openai/clip-vit-large-patch14-336': CLIP_L_336,
  'meta-llama/Meta-Llama-3-8B-Instruct': LLAMA_3_8B,
  'meta-llama/Meta-Llama-3-8B': LLAMA_3_8B,
  'lmsys/vicuna-7b-v1.5': VICUNA_7B,
};
