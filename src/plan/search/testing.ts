/** A small model, and cards that do not exist, for tests of the search. */

import { checkRecipe, type Recipe, type RecipeInput } from '../../config/index.js';
import { readGpus, type Gpus } from '../devices/cards.js';
import { smallConfig } from '../testing.js';

/** Full training of a decoder beside a frozen tower; each record takes 64 tokens. */
export const SMALL: RecipeInput = {
  name: 'small',
  data: { sources: ['x'] },
  model: {
    tokenizer: './tokenizer',
    config: smallConfig(),
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
  return {
    count,
    card: { ...card, name: 'made up', memory: Math.round(bytes), context: 0, nccl: 0 },
  };
}
