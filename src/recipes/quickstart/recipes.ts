/**
 * The recipes of `patina quickstart`: a LLaVA of 270,000 parameters on pictures that it draws itself. Nothing is
 * pre-trained, so the first stage trains everything, on captions; the second one teaches the decoder to answer questions
 * by LoRA. Numbers are our own, found by some seventy runs.
 */
import { defineRecipe, type RecipeInput } from '../../config/define-recipe.js';
import { QUICKSTART } from '../origins.js';
import { SIDE } from './draw.js';
import { QUICKSTART_IMAGE_TOKEN, QUICKSTART_VOCABULARY } from './prepare.js';

/** Where `patina quickstart` leaves its data. */
export const QUICKSTART_DATA = './runs/quickstart';

const PATCH = 8;

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
    // Of patches and positions. CLIP's own 0.02 takes a third more updates to tell shapes apart.
    initializer_range: 0.1,
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
  optimizer: { learningRate: 1.5e-3, betas: [0.9, 0.98], weightDecay: 0.05 },
  schedule: { updates: 360, warmupUpdates: 30 },
  batchSize: 16,
  checkpoints: { everyUpdates: 5000, keep: 1 },
});

export const quickstartQuestions = defineRecipe({
  ...SHARED,
  name: 'quickstart-questions',
  description:
    'The model of `quickstart` learns to answer questions: the decoder by LoRA, the vision tower frozen. It starts from what `patina quickstart` leaves of its first stage.',
  model: { from: `${QUICKSTART_DATA}/describer` },
  train: {
    vision: 'frozen',
    projector: 'full',
    decoder: { lora: { rank: 16, alpha: 32 } },
  },
  data: {
    // Some captions among them: a model that sees questions alone forgets how to describe.
    sources: [
      { path: `${QUICKSTART_DATA}/questions.json`, origin: QUICKSTART },
      { path: `${QUICKSTART_DATA}/captions.json`, weight: 0.25, origin: QUICKSTART },
    ],
    workers: 1,
  },
  optimizer: { learningRate: 2e-3 },
  schedule: { updates: 150, warmupUpdates: 10 },
  batchSize: 16,
  checkpoints: { everyUpdates: 5000, keep: 1 },
});
