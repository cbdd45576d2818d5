/**
 * The recipes of `patina quickstart`: a LLaVA of 270,000 parameters on pictures that it draws itself. Nothing is
 * pre-trained, so the first stage trains everything, on captions; the second one teaches the decoder to answer questions
 * by LoRA. Numbers are our own, found by trying.
 */
import { defineRecipe, type RecipeInput } from '../../config/define-recipe.js';
import { SIDE } from './draw.js';
import { QUICKSTART_IMAGE_TOKEN, QUICKSTART_VOCABULARY } from './prepare.js';

/** Where `patina quickstart` leaves its data. */
export const QUICKSTART_DATA = './runs/quickstart';

const PATCH = 16;

const CONFIG = {
  model_type: 'llava',
  architectures: ['LlavaForConditionalGeneration'],
  image_token_index: QUICKSTART_IMAGE_TOKEN,
  image_seq_length: (SIDE / PATCH) ** 2,
  projector_hidden_act: 'gelu',
  vision_feature_layer: -1,
  vision_feature_select_strategy: 'default',
  tie_word_embeddings: false,
  vision_config: {
    model_type: 'clip_vision_model',
    hidden_size: 64,
    intermediate_size: 256,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    image_size: SIDE,
    patch_size: PATCH,
    projection_dim: 64,
  },
  text_config: {
    model_type: 'llama',
    vocab_size: QUICKSTART_VOCABULARY,
    hidden_size: 64,
    intermediate_size: 176,
    num_hidden_layers: 2,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    max_position_embeddings: 256,
    initializer_range: 0.08,
    tie_word_embeddings: false,
  },
};

const SHARED = {
  text: { maxLength: 192 },
  image: { mode: 'crop' },
  precision: { compute: 'fp32' },
  memory: { policy: 'keep' },
  device: 'cpu',
  // At this size one thread is faster than two.
  threads: 1,
} satisfies Partial<RecipeInput>;

export const quickstart = defineRecipe({
  ...SHARED,
  name: 'quickstart',
  description:
    'A new LLaVA of 270,000 parameters learns captions of drawn pictures, all of it, on a CPU. `patina quickstart` makes its data; --data gives it others.',
  model: { config: CONFIG, tokenizer: `${QUICKSTART_DATA}/tokenizer` },
  train: { vision: 'full', projector: 'full', decoder: 'full' },
  data: { sources: [`${QUICKSTART_DATA}/captions.json`], workers: 1 },
  optimizer: { learningRate: 3e-3, betas: [0.9, 0.98], weightDecay: 0.05 },
  schedule: { updates: 550, warmupUpdates: 30 },
  batchSize: 32,
  checkpoints: { everyUpdates: 5000, keep: 1 },
});

export const quickstartQuestions = defineRecipe({
  ...SHARED,
  name: 'quickstart-questions',
  description:
    'The model of `quickstart` learns to answer questions: the decoder by LoRA, the vision tower frozen. it starts from what `patina quickstart` leaves of its first stage.',
  model: { from: `${QUICKSTART_DATA}/describer` },
  train: {
    vision: 'frozen',
    projector: 'full',
    decoder: { lora: { rank: 16, alpha: 32 } },
  },
  data: { sources: [`${QUICKSTART_DATA}/questions.json`], workers: 1 },
  optimizer: { learningRate: 2e-3 },
  schedule: { updates: 200, warmupUpdates: 10 },
  batchSize: 32,
  checkpoints: { everyUpdates: 5000, keep: 1 },
});
