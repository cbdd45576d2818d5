/** The shape of LLaVA-Llama-3-8B that the GPU benches share with their peers, or a smaller one of its kind to try them on a CPU. */
import { type LlavaConfig, readLlavaConfig, type Sample } from '../src/models/index.js';

export const IMAGE_TOKEN = 128257;

/** @param layers of the decoder; @param hidden its width, 4096 in the model itself: less also gives a tower of three layers */
export function llava8b({ layers = 32, hidden = 4096 } = {}): LlavaConfig {
  const json = {
    model_type: 'llava',
    image_token_index: IMAGE_TOKEN,
    vision_feature_layer: -2,
    vision_config: {
      model_type: 'clip_vision_model',
      hidden_size: 1024,
      intermediate_size: 4096,
      num_hidden_layers: hidden < 4096 ? 3 : 24,
      num_attention_heads: 16,
      image_size: 336,
      patch_size: 14,
    },
    text_config: {
      model_type: 'llama',
      vocab_size: 128320,
      hidden_size: hidden,
      intermediate_size: 3.5 * hidden,
      num_hidden_layers: layers,
      num_attention_heads: hidden / 128,
      num_key_value_heads: hidden / 512,
      rope_theta: 500000,
      max_position_embeddings: 8192,
      rms_norm_eps: 1e-5,
    },
  };
  return readLlavaConfig({ file: 'bench', json });
}

/** As the peers': 576 image tokens from position 5 on, random text, the first 600 labels ignored. */
export function sample(seed: number, tokens: number): Sample {
  const ids = Array.from({ length: tokens }, (_, i) =>
    i >= 5 && i < 581 ? IMAGE_TOKEN : ((Math.imul(i + 1, 2654435761) + seed * 97) >>> 0) % 128000,
  );
  return {
    inputIds: ids,
    labels: ids.map((id, i) => (i < 600 ? -100 : id)),
    images: [Float32Array.from({ length: 3 * 336 * 336 }, (_, i) => Math.sin(i + seed))],
  };
}
