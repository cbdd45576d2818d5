/**
 * Peaks that were measured on cards (`bench/results/`), which the ghost run has to give: the rows of its regression table. All are of
 * LLaVA-Llama-3-8B's shape with weights in bf16, and an update that is not clipped.
 */

import { checkRecipe, type Recipe, type RecipeInput } from '../config/index.js';
import type { ChosenPrecision } from '../train/index.js';
import { readLlavaConfig } from '../models/index.js';
import type { ModelConfig } from './shape-model.js';
import type { RecordShape } from '../train/index.js';
import { KNOWN_MODELS } from './known-models.js';

export interface MeasuredRow {
  readonly name: string;
  readonly recipe: Recipe;
  readonly precision: ChosenPrecision;
  readonly ranks: number;
  readonly batches: readonly (readonly RecordShape[])[];
  readonly model: ModelConfig;
  /** As `bench/results` has it: most that was allocated. */
  readonly peakGiB: number;
  /** By which share the ghost run may miss it. @default 0.03 */
  readonly tolerance?: number;
  /** Of an update, where the host does not hold it up. */
  readonly seconds?: number;
}

const PICTURE = 576;
/** Adam's moments in the weights' type, like the peers'. */
const BF16: ChosenPrecision = {
  ...{ compute: 'bfloat16', master: 'none', states: 'bfloat16', scaled: false },
  statement: '',
};
const FP32: ChosenPrecision = { ...BF16, master: 'float32', states: 'float32' };

const LORA = { lora: { rank: 16, alpha: 32, dropout: 0 } } as const;

/** As in `bench/shapes.ts`: the vocabulary of Llama 3, filled up to a multiple of 64 beyond the token of pictures. */
const CONFIG = readLlavaConfig({
  file: 'measured',
  json: {
    ...{ model_type: 'llava', image_token_index: 128257, vision_feature_layer: -2 },
    vision_config: KNOWN_MODELS['openai/clip-vit-large-patch14-336'],
    text_config: { ...KNOWN_MODELS['meta-llama/Meta-Llama-3-8B'], vocab_size: 128320 },
  },
});
const LLAVA: ModelConfig = { kind: 'llava', config: CONFIG };
const TEXT: ModelConfig = { kind: 'text', config: CONFIG.text };

function recipeOf(more: Partial<RecipeInput>): Recipe {
  return checkRecipe({
    ...{ name: 'measured', model: { from: 'x' }, data: { sources: ['x'] } },
    train: { decoder: 'full', projector: 'full' },
    ...more,
    memory: { lossChunk: 2048, ...more.memory },
    optimizer: { learningRate: 2e-5, clipNorm: null, ...more.optimizer },
  });
}

/** As the benches make them: five tokens, the picture, a question of 19. */
const ROW: RecordShape = { tokens: 2048, supervised: 2048 - 5 - PICTURE - 19, images: 1 };
const FOUR = [[ROW, ROW, ROW, ROW]];

const one = (
  name: string,
  more: Partial<RecipeInput>,
  peakGiB: number,
  seconds: number,
): MeasuredRow => ({
  ...{ name, recipe: recipeOf(more), precision: BF16, ranks: 1, model: LLAVA, batches: FOUR },
  ...{ peakGiB, seconds, tolerance: 0.001 },
});

/** Measured before updates followed one another (2026-11-29-train-h200.md); heads took 210 MiB more then. */
const BEFORE = 0.005;

const lora = { train: { decoder: LORA, projector: 'full' } } as const;

const over = (base: 'nf4' | 'fp8') =>
  ({
    train: {
      decoder: { ...LORA, base, ...(base === 'nf4' && { doubleQuantised: true }) },
      projector: 'full',
    },
  }) as const;

/** One H200, 4 x 2,048 (2026-11-29-step-h200.md; full training and text alone: 2026-11-29-train-h200.md). */
const ONE_CARD: readonly MeasuredRow[] = [
  one('LoRA, recompute', lora, 18.85, 0.605),
  one('LoRA, products', { ...lora, memory: { policy: 'products' } }, 39.54, 0.452),
  one('LoRA, keep', { ...lora, memory: { policy: 'keep' } }, 43.56, 0.453),
  one('LoRA over fp8, recompute', over('fp8'), 12.53, 0.436),
  one('LoRA over fp8, products', { ...over('fp8'), memory: { policy: 'products' } }, 33.04, 0.338),
  one('LoRA over fp8, keep', { ...over('fp8'), memory: { policy: 'keep' } }, 37.07, 0.335),
  one('LoRA over NF4, recompute', over('nf4'), 9.31, 0.631),
  one('LoRA over NF4, products', { ...over('nf4'), memory: { policy: 'products' } }, 29.89, 0.485),
  one('full, recompute', {}, 60.95, 0.816),
  {
    ...one(
      'full, 19 blocks products',
      { memory: { keepBlocks: { decoder: { products: 19 } } } },
      63.77,
      0.737,
    ),
    tolerance: BEFORE,
  },
  {
    ...one('full, products', { memory: { policy: 'products' } }, 72.31, 0.685),
    tolerance: BEFORE,
  },
  {
    ...one(
      'full, update in backward, 19 blocks products',
      {
        memory: { keepBlocks: { decoder: { products: 19 } } },
        optimizer: { learningRate: 2e-5, clipNorm: null, updateInBackward: true },
      },
      63.77,
      0.732,
    ),
    tolerance: BEFORE,
  },
  {
    ...one('LoRA, text alone, 2 x 4,096', { ...lora, memory: { policy: 'products' } }, 39.07, 0.51),
    model: TEXT,
    batches: [Array<RecordShape>(2).fill({ tokens: 4096, supervised: 4095, images: 0 })],
  },
  {
    ...one(
      'LoRA, text alone, 1 x 8,192',
      { ...lora, memory: { policy: 'products' } },
      39.07,
      0.581,
    ),
    model: TEXT,
    batches: [[{ tokens: 8192, supervised: 8191, images: 0 }]],
  },
];

type Parallel = NonNullable<RecipeInput['parallel']>;

const two = (
  parallel: Parallel,
  precision: ChosenPrecision,
  [peakGiB, seconds]: readonly [number, number?],
  { products = 0, ...more }: Partial<RecipeInput> & { readonly products?: number } = {},
): MeasuredRow => ({
  name: `two cards${more.train === undefined ? '' : ', LoRA'}, ${Object.entries(parallel)
    .map((pair) => pair.join(' '))
    .join(', ')}, states ${precision.states}, ${products} blocks products`,
  recipe: recipeOf({ ...more, parallel, memory: { keepBlocks: { decoder: { products } } } }),
  ...{ precision, ranks: 2, model: LLAVA, batches: FOUR },
  ...{ peakGiB, tolerance: 0.001, ...(seconds !== undefined && { seconds }) },
});

/** Two H200, 4 x 2,048 each (2026-11-30-ranks-h200-x2.md; those without seconds: 2026-11-28-ranks-h200-x2.md). */
const TWO_CARDS: readonly MeasuredRow[] = [
  two({ zero: 3 }, FP32, [65.11]),
  two({ zero: 3, reduction: 'bf16' }, FP32, [56.24, 0.85]),
  two({ zero: 3, reduction: 'bf16' }, FP32, [58.1, 0.811], { products: 9 }),
  two({ zero: 3 }, BF16, [33.75, 0.834]),
  two({ zero: 3 }, BF16, [50.72, 0.693], { products: 32 }),
  two({ zero: 3, reshardAfterForward: false }, BF16, [43.47]),
  two({ zero: 3, reshardAfterForward: false }, BF16, [64.33, 0.678], { products: 32 }),
  two({ zero: 2 }, BF16, [40.5]),
  two({ zero: 0 }, BF16, [18.85, 0.637], lora),
  two({ zero: 0 }, BF16, [39.54, 0.478], { ...lora, products: 32 }),
  two({ zero: 3 }, BF16, [12.19, 0.66], lora),
  two({ zero: 3 }, BF16, [33, 0.519], { ...lora, products: 32 }),
];

export const MEASURED: readonly MeasuredRow[] = [...ONE_CARD, ...TWO_CARDS];
