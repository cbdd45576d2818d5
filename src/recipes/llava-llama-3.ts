/**
 * LLaVA-Llama-3-8B: XTuner's recipes (xtuner 0.1.23, xtuner/configs/llava/llama3_8b_instruct_clip_vit_large_p14_336),
 * number by number, with these of their defects mended:
 *
 * - Lengths of schedule and warm-up count updates, not micro-steps; the loss is weighted by tokens over the whole
 *   batch; the vision tower ends at the layer in use, so no adapter lies where no gradient comes.
 * - `maxLength` counts the image's 576 tokens: XTuner's 1472 is 2048 here (2047 after its splice), its 3520 is 4096.
 *   Records without an image have the whole length, where XTuner cuts them at 1472.
 * - Photographs are turned upright. A record whose text and images do not agree stops the run; XTuner passes over it.
 *
 * Batches are written for 8 GPUs (`--nproc 8`); `effectiveBatch` holds them on any number, which is what XTuner's `gpu1` recipes
 * are for: one card trains the same updates, in pre-training with `--set batchSize=1`. Where XTuner fine-tunes by micro-batches of
 * 8, 4 or 1 records, padded, `batchTokens` packs as many as have room.
 */
import { defineRecipe, type RecipeInput } from '../config/define-recipe.js';
import { INTERNVL_SFT, INSTRUCT_SOURCE, PRETRAIN_SOURCE, SHAREGPT4V_PT } from './origins.js';

const LLM = 'meta-llama/Meta-Llama-3-8B-Instruct';
const VISION = 'openai/clip-vit-large-patch14-336';
const SOURCE = 'Numbers: XTuner 0.1.23';

const INTERNVL_DATA = './data/internvl_sft';

/** XTuner's LoRA of the vision tower: alpha / rank is 0.25. */
const VISION_LORA = { lora: { rank: 64, alpha: 16, dropout: 0.05 } };

/** XTuner's commands say `--deepspeed deepspeed_zero2` for every one of them. */
const ZERO2 = { zero: 2 } as const;

const PRETRAIN = {
  model: { llm: LLM, vision: VISION },
  train: { vision: 'frozen', projector: 'full', decoder: 'frozen' },
  // The centre of the picture, as in LLaVA's own pre-training; fine-tuning pads.
  image: { mode: 'crop' },
  optimizer: { learningRate: 1e-3 },
  parallel: ZERO2,
  effectiveBatch: 256,
} satisfies Partial<RecipeInput>;

const FINETUNE = {
  model: { llm: LLM, vision: VISION, projector: './projector' },
  data: {
    sources: [INSTRUCT_SOURCE],
    grouping: 'modality',
  },
  text: { template: 'llama3_chat' },
  optimizer: { learningRate: 2e-5 },
  parallel: ZERO2,
  batchTokens: 8192,
  effectiveBatch: 128,
} satisfies Partial<RecipeInput>;

export const llavaLlama3Pretrain = defineRecipe({
  ...PRETRAIN,
  name: 'llava-llama-3-8b-pretrain',
  description: `Stage 1 of LLaVA-Llama-3-8B: the projector learns to caption 558K pictures, all else is frozen. ${SOURCE}, ..._e1_gpu8_pretrain.`,
  data: {
    sources: [PRETRAIN_SOURCE],
  },
  text: { template: 'llama3_chat' },
  batchSize: 32,
});

export const llavaLlama3PretrainSharegpt4v = defineRecipe({
  ...PRETRAIN,
  name: 'llava-llama-3-8b-v1.1-pretrain',
  description: `Stage 1 of LLaVA-Llama-3-8B-v1.1: the projector learns from 1246K captions of ShareGPT4V-PT. ${SOURCE}, ..._e1_gpu8_sharegpt4v_pretrain.`,
  data: {
    sources: [
      {
        path: './data/sharegpt4v/share-captioner_coco_lcs_sam_1246k_1107.json',
        images: './data/sharegpt4v/data',
        origin: SHAREGPT4V_PT,
      },
    ],
  },
  text: { template: 'llama3_chat', maxLength: 4096 },
  batchSize: 16,
});

export const llavaLlama3Finetune = defineRecipe({
  ...FINETUNE,
  name: 'llava-llama-3-8b-finetune',
  description: `Stage 2 of LLaVA-Llama-3-8B: the language model trains fully, the vision tower by LoRA, on 665K conversations; model.projector is what stage 1 left. ${SOURCE}, ..._lora_e1_gpu8_finetune.`,
  train: { vision: VISION_LORA, projector: 'full', decoder: 'full' },
});

export const llavaLlama3FinetuneFrozen = defineRecipe({
  ...FINETUNE,
  name: 'llava-llama-3-8b-finetune-frozen-vision',
  description: `Stage 2 with the vision tower frozen and the language model trained fully; model.projector is what stage 1 left. ${SOURCE}, ..._full_clip_..._e1_gpu8_finetune.`,
  train: { vision: 'frozen', projector: 'full', decoder: 'full' },
});

export const llavaLlama3FinetuneInternvl = defineRecipe({
  ...FINETUNE,
  name: 'llava-llama-3-8b-v1.1-finetune',
  description: `Stage 2 of LLaVA-Llama-3-8B-v1.1: nine sets in InternVL's layout, 1268K records; model.projector is what stage 1 left. XTuner ignores the images of llava_instruct_150k_zh.jsonl, whose texts lack <image>: here such records are bad and counted. ${SOURCE}, ..._lora_e1_gpu8_internvl_finetune.`,
  train: { vision: VISION_LORA, projector: 'full', decoder: 'full' },
  data: {
    sources: [
      ['sharegpt4v_instruct_gpt4-vision_cap100k', 'data'],
      ['llava_instruct_150k_zh', 'data/coco'],
      ['sharegpt4v_mix665k_cap23k_coco-ap9k_lcs3k_sam9k_div2k', 'data'],
      ['dvqa_train_200k', 'data/dvqa'],
      ['chartqa_train_18k', 'data/chartqa'],
      ['ai2d_train_12k', 'data/ai2d'],
      ['docvqa_train_10k', 'data/docvqa'],
      ['geoqa+', 'data/geoqa+'],
      ['synthdog_en', 'data/synthdog-en'],
    ].map(([name, images]) => ({
      path: `${INTERNVL_DATA}/${name!}.jsonl`,
      images: `${INTERNVL_DATA}/${images!}`,
      origin: INTERNVL_SFT,
    })),
    grouping: 'modality',
    badRecords: 'skip',
  },
  text: { template: 'llama3_chat', maxLength: 4096 },
});

/** XTuner's recipe for one card. */
const ONE_CARD = {
  ...FINETUNE,
  optimizer: { learningRate: 2e-4 },
} satisfies Partial<RecipeInput>;

const DECODER_LORA = { rank: 64, alpha: 16, dropout: 0.05 };

export const llavaLlama3Qlora = defineRecipe({
  ...ONE_CARD,
  name: 'llava-llama-3-8b-qlora',
  description: `Stage 2 on one small GPU: the language model by LoRA over weights in 4 bits (NF4, scales in 8 bits), the vision tower frozen; model.projector is what stage 1 left. ${SOURCE}, ..._qlora_..._e1_gpu1_finetune, which computes in fp16.`,
  train: {
    vision: 'frozen',
    projector: 'full',
    decoder: { lora: DECODER_LORA, base: 'nf4', doubleQuantised: true },
  },
  // One record of full length, as XTuner has it.
  batchTokens: 2048,
});

export const llavaLlama3Lora = defineRecipe({
  ...ONE_CARD,
  name: 'llava-llama-3-8b-lora',
  description: `Stage 2 on one GPU: the language model by LoRA over bf16 weights, the vision tower frozen; model.projector is what stage 1 left. ${SOURCE}, ..._qlora_..._e1_gpu1_finetune, whose base is in 4 bits: llava-llama-3-8b-qlora.`,
  train: { vision: 'frozen', projector: 'full', decoder: { lora: DECODER_LORA } },
});
