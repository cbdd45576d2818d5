/** A small LLaVA for tests of plans. */

export interface SmallShape {
  /** Of the decoder; the tower has half of it. @default 256 */
  readonly hidden?: number;
  /** Of the decoder. @default 4 */
  readonly layers?: number;
  /** Positions of the decoder. @default 2048 */
  readonly positions?: number;
}

/** Its `config.json`; a picture takes four tokens. */
export function smallConfig({ hidden = 256, layers = 4, positions = 2048 }: SmallShape = {}) {
  return {
    ...{ model_type: 'llava', image_token_index: 999, vision_feature_layer: -2 },
    vision_config: {
      ...{ model_type: 'clip_vision_model', hidden_size: hidden / 2, intermediate_size: hidden },
      ...{ num_hidden_layers: 2, num_attention_heads: 2, image_size: 28, patch_size: 14 },
    },
    text_config: {
      ...{ model_type: 'llama', hidden_size: hidden, intermediate_size: 2 * hidden },
      ...{ num_hidden_layers: layers, num_attention_heads: 4, num_key_value_heads: 2 },
      ...{ vocab_size: 1000, max_position_embeddings: positions },
    },
  };
}
