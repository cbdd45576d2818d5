/**
 * LLaVA-1.5 with Vicuna-7B: the official numbers (Liu et al. 2023, arXiv 2310.03744, table 9; scripts/v1_5 of
 * haotian-liu/LLaVA), which XTuner's configs/llava/official/llava_v15_7b repeat.
 *
 * One difference: officially pre-training shows the picture and its caption alone; here the question stands before it,
 * in the `vicuna` format of all later use.
 */
import { defineRecipe, type RecipeInput } from '../config/define-recipe.js';
import { INSTRUCT_SOURCE, PRETRAIN_SOURCE } from './origins.js';

const LLM = 'lmsys/vicuna-7b-v1.5';
const VISION = 'openai/clip-vit-large-patch14-336';
const SOURCE = 'Numbers: LLaVA-1.5 (arXiv 2310.03744)';

const FINETUNE = {
  model: { llm: LLM, vision: VISION, projector: './projector' },
  data: {
    sources: [INSTRUCT_SOURCE],
    grouping: 'modality',
  },
  text: { template: 'vicuna' },
  batchTokens: 16_384,
  effectiveBatch: 128,
} satisfies Partial<RecipeInput>;

export const llava15Pretrain = defineRecipe({
  name: 'llava-1.5-7b-pretrain',
  description: `Stage 1 of LLaVA-1.5-7B: the projector learns to caption 558K pictures, all else is frozen. ${SOURCE}, pretrain.sh.`,
  model: { llm: LLM, vision: VISION },
  train: { vision: 'frozen', projector: 'full', decoder: 'frozen' },
  data: {
    sources: [PRETRAIN_SOURCE],
  },
  text: { template: 'vicuna' },
  image: { mode: 'crop' },
  optimizer: { learningRate: 1e-3 },
  batchSize: 32,
  effectiveBatch: 256,
});

export const llava15Finetune = defineRecipe({
  ...FINETUNE,
  name: 'llava-1.5-7b-finetune',
  description: `Stage 2 of LLaVA-1.5-7B: projector and language model train fully on 665K conversations; model.projector is what stage 1 left. ${SOURCE}, finetune.sh.`,
  train: { vision: 'frozen', projector: 'full', decoder: 'full' },
  optimizer: { learningRate: 2e-5 },
});

export const llava15Lora = defineRecipe({
  ...FINETUNE,
  name: 'llava-1.5-7b-lora',
  description: `Stage 2 of LLaVA-1.5-7B by LoRA, the projector fully at a tenth of the rate; model.projector is what stage 1 left. ${SOURCE}, finetune_lora.sh.`,
  train: {
    vision: 'frozen',
    projector: 'full',
    decoder: { lora: { rank: 128, alpha: 256, dropout: 0.05 } },
  },
  optimizer: {
    learningRate: 2e-4,
    groups: [{ parameters: '*multi_modal_projector.*', learningRate: 2e-5 }],
  },
});
