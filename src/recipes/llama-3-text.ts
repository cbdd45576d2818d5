/**
 * Llama-3-8B-Instruct on conversations without pictures. LoRA numbers: QLoRA (Dettmers et al. 2023, arXiv 2305.14314,
 * table 9, 7B to 13B), which XTuner's llama3_8b_instruct_qlora_alpaca_e3 repeats; here over bf16 weights. Full
 * training: XTuner's llama3_8b_instruct_full_alpaca_e3.
 */
import { defineRecipe, type RecipeInput } from '../config/define-recipe.js';

const TEXT = {
  model: { llm: 'meta-llama/Meta-Llama-3-8B-Instruct' },
  data: {
    sources: [{ path: './data/train.jsonl', origin: 'your own conversations, one a line' }],
    grouping: 'length',
  },
  schedule: { epochs: 3 },
  effectiveBatch: 16,
} satisfies Partial<RecipeInput>;

export const llama3Lora = defineRecipe({
  ...TEXT,
  name: 'llama-3-8b-text-lora',
  description:
    'Llama-3-8B-Instruct learns from text conversations by LoRA. Numbers: QLoRA (arXiv 2305.14314), over bf16 weights.',
  train: { projector: 'frozen', decoder: { lora: { rank: 64, alpha: 16, dropout: 0.1 } } },
  optimizer: { learningRate: 2e-4 },
});

export const llama3Full = defineRecipe({
  ...TEXT,
  name: 'llama-3-8b-text-full',
  description:
    'Llama-3-8B-Instruct learns from text conversations with all its weights. Numbers: XTuner 0.1.23, llama3_8b_instruct_full_alpaca_e3.',
  train: { projector: 'frozen', decoder: 'full' },
  optimizer: { learningRate: 2e-5 },
});
