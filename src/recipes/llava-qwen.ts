/**
 * LLaVA with SigLIP and a Qwen decoder. Numbers of both stages: LLaVA-NeXT (LLaVA-VL/LLaVA-NeXT, scripts/train/pretrain_siglip.sh,
 * finetune_siglip.sh), which trains Qwen2-7B so; by LoRA: LLaVA-1.5 (scripts/v1_5/finetune_lora.sh). Differences:
 *
 * - One view of each picture, squeezed to 384 x 384 (729 features); LLaVA-NeXT's second stage cuts tiles. A LLaVA-OneVision cuts its own.
 * - The data, and so many records an update, are LLaVA-1.5's: the scripts leave both to who runs them.
 * - In the first stage the question stands before the caption, in the format of all later use.
 */
import { defineRecipe, type RecipeInput } from '../config/define-recipe.js';
import { INSTRUCT_SOURCE, PRETRAIN_SOURCE } from './origins.js';

const VISION = 'google/siglip-so400m-patch14-384';
const STAGES = 'Numbers: LLaVA-NeXT';
const BY_LORA = 'Numbers: LLaVA-1.5 (arXiv 2310.03744), finetune_lora.sh.';

/** As SigLIP was trained. */
const IMAGE = { mode: 'squeeze' } as const;
/** Pictures take 729 tokens of it. */
const TEXT = { template: 'qwen_chat', maxLength: 4096 } as const;

/** The decoder by LoRA, the projector fully at a tenth of the rate. */
const LORA = {
  train: {
    vision: 'frozen',
    projector: 'full',
    decoder: { lora: { rank: 128, alpha: 256, dropout: 0.05 } },
  },
  optimizer: {
    learningRate: 2e-4,
    groups: [{ parameters: '*multi_modal_projector.*', learningRate: 2e-5 }],
  },
  batchTokens: 16_384,
} satisfies Partial<RecipeInput>;

/** Both stages, the second by LoRA too. */
function stages(name: string, title: string, llm: string): RecipeInput[] {
  const finetune = {
    model: { llm, vision: VISION, projector: './projector' },
    data: {
      sources: [INSTRUCT_SOURCE],
      grouping: 'modality',
    },
    text: TEXT,
    image: IMAGE,
    effectiveBatch: 128,
  } satisfies Partial<RecipeInput>;
  return [
    defineRecipe({
      name: `llava-${name}-pretrain`,
      description: `Stage 1 of a LLaVA with ${title}: the projector learns to caption 558K pictures, all else is frozen. ${STAGES}, pretrain_siglip.sh.`,
      model: { llm, vision: VISION },
      train: { vision: 'frozen', projector: 'full', decoder: 'frozen' },
      data: {
        sources: [PRETRAIN_SOURCE],
      },
      text: { ...TEXT, maxLength: 2048 },
      image: IMAGE,
      optimizer: { learningRate: 1e-3 },
      batchSize: 16,
      effectiveBatch: 256,
    }),
    defineRecipe({
      ...finetune,
      name: `llava-${name}-finetune`,
      description: `Stage 2 of a LLaVA with ${title}: all parts train fully on 665K conversations, the vision tower at a fifth of the rate; model.projector is what stage 1 left. ${STAGES}, finetune_siglip.sh.`,
      train: { vision: 'full', projector: 'full', decoder: 'full' },
      optimizer: {
        learningRate: 1e-5,
        groups: [{ parameters: '*vision_tower.*', learningRate: 2e-6 }],
      },
      parallel: { zero: 3 },
      batchTokens: 8192,
    }),
    defineRecipe({
      ...finetune,
      ...LORA,
      name: `llava-${name}-lora`,
      description: `Stage 2 of a LLaVA with ${title} by LoRA, the projector fully at a tenth of the rate; model.projector is what stage 1 left. ${BY_LORA}`,
    }),
  ];
}

/** What is already a LLaVA learns one's own records, in its own chat template. */
const OWN_RECORDS = {
  ...LORA,
  data: {
    sources: [
      {
        path: './data/train.json',
        images: './data/images',
        origin: "your own records, in LLaVA's layout",
      },
    ],
    grouping: 'length',
  },
  effectiveBatch: 128,
} satisfies Partial<RecipeInput>;

const llavaInterleaveLora = defineRecipe({
  ...OWN_RECORDS,
  name: 'llava-interleave-qwen-7b-lora',
  description: `LLaVA-Interleave-7B (SigLIP, Qwen1.5) learns from your own records by LoRA, the projector fully at a tenth of the rate. ${BY_LORA}`,
  model: { from: 'llava-hf/llava-interleave-qwen-7b-hf' },
  text: { maxLength: TEXT.maxLength },
  image: IMAGE,
});

/**
 * The vector that ends rows of tiles learns as the projector does. LLaVA-OneVision's own script (LLaVA-VL/LLaVA-NeXT,
 * scripts/train/finetune_ov.sh) trains all parts fully, 256 records of up to 32,768 tokens an update.
 */
const llavaOneVisionLora = defineRecipe({
  ...OWN_RECORDS,
  name: 'llava-onevision-qwen2-7b-lora',
  description: `LLaVA-OneVision-7B (SigLIP in tiles, Qwen2) learns from your own records by LoRA, the projector fully at a tenth of the rate. ${BY_LORA}`,
  model: { from: 'llava-hf/llava-onevision-qwen2-7b-ov-hf' },
  optimizer: {
    ...LORA.optimizer,
    groups: [...LORA.optimizer.groups, { parameters: '*image_newline', learningRate: 2e-5 }],
  },
  // A large picture takes 8,000 tokens.
  text: { maxLength: LORA.batchTokens },
});

export const llavaQwen: readonly RecipeInput[] = [
  ...stages('qwen2-7b', 'Qwen2-7B', 'Qwen/Qwen2-7B-Instruct'),
  ...stages('qwen2.5-7b', 'Qwen2.5-7B', 'Qwen/Qwen2.5-7B-Instruct'),
  ...stages('qwen3-8b', 'Qwen3-8B', 'Qwen/Qwen3-8B'),
  llavaInterleaveLora,
  llavaOneVisionLora,
];
