/** A small model, and cards that do not exist, for tests of the search. */

import { checkRecipe, type Recipe, type RecipeInput } from '../../config/index.js';
import { readGpus, type Gpus } from '../devices/cards.js';

/** Full training of a decoder beside a frozen tower; each record takes 64 tokens. */
export const SMALL: RecipeInput = {
  name: 'small',
  data: { sources: ['x'] },
  model: {
    tokenizer: './tokenizer',
    config: {
      ...{ model_type: 'llava', image_token_index: 999, vision_feature_layer: -2 },
      vision_config: {
        ...{ model_type: 'clip_vision_model', hidden_size: 128, intermediate_size: 256 },
        ...{ num_hidden_layers: 2, num_attention_heads: 2, image_size: 28, patch_size: 14 },
      },
      text_config: {
        ...{ model_type: 'llama', hidden_size: 256, intermediate_size: 512, vocab_size: 1000 },
        ...{ num_hidden_layers: 4, num_attention_heads: 4, num_key_value_heads: 2 },
        max_position_embeddings: 2048,
      },
    },
  },
  train: { projector: 'full', decoder: 'full' },
  text: { maxLength: 512 },
  optimizer: { learningRate: 1e-4 },
  ...{ batchSize: 2, effectiveBatch: 16 },
};

export function smallRecipe(set: readonly string[] = []): Recipe {
  return checkRecipe(SMALL, { set });
}

/** With so many bytes for the allocator of a process. */
export function cardsOf(bytes: number, count = 4): Gpus {
  const { card } = readGpus('A100-40GB');
  return { count, card: { ...card, name: 'made up', memory: Math.round(bytes), context: 0 } };
}
