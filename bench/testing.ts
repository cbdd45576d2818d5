/** For tests of benches: shapes of a tiny LLaVA. */

import { readLlavaConfig } from '../src/models/index.js';

export const TINY = readLlavaConfig({
  file: 'config.json',
  json: {
    model_type: 'llava',
    image_token_index: 1010,
    vision_feature_layer: -2,
    vision_config: {
      model_type: 'clip_vision_model',
      hidden_size: 8,
      intermediate_size: 16,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      image_size: 28,
      patch_size: 14,
    },
    text_config: {
      model_type: 'llama',
      vocab_size: 1016,
      hidden_size: 16,
      intermediate_size: 32,
      num_hidden_layers: 2,
      num_attention_heads: 2,
      num_key_value_heads: 1,
    },
  },
});
