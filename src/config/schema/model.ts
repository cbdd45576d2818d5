/** Where a run starts from, and which parts of it learn. */
import { z } from 'zod';

import { count, pathOrName, text } from './fields.js';

export const modelSection = z
  .strictObject({
    from: pathOrName
      .optional()
      .describe(
        'A whole model: a folder or a name on the hub in the Hugging Face, official LLaVA or XTuner layout, or a ' +
          'language model alone. What it lacks comes from the parts below.',
      ),
    llm: pathOrName
      .optional()
      .describe('The language model with its tokenizer, when a LLaVA is put together from parts.'),
    vision: pathOrName
      .optional()
      .describe(
        'The CLIP or SigLIP vision tower with its image processor, when put together from parts.',
      ),
    projector: pathOrName
      .optional()
      .describe(
        'Weights of a trained projector: a folder or a file, for example of a pre-training run. It takes the place of the ' +
          'one that the model has. Where there is none, a new ' +
          'projector is drawn from the seed.',
      ),
    adapter: pathOrName
      .optional()
      .describe('A PEFT adapter to go on training, or to fold in where the decoder trains fully.'),
    tokenizer: pathOrName
      .optional()
      .describe("A folder with a tokenizer to use in place of the model's own."),
    config: z
      .record(z.string(), z.unknown())
      .optional()
      .describe(
        "A new model with random weights: what would stand in Hugging Face's config.json. Needs `tokenizer`, " +
          'excludes the fields above.',
      ),
    projectorDepth: count
      .optional()
      .describe('Linear layers of a new projector; GELU between them. The model says it, else 2.'),
    featureLayer: z
      .int()
      .optional()
      .describe(
        'Which hidden state of the vision tower is projected; negative counts from the end. The model says it, ' +
          'else -2.',
      ),
    featureSelect: z
      .enum(['default', 'full'])
      .optional()
      .describe(
        'All that the tower gives (`full`), or all but the first (`default`), which is the class token of CLIP; SigLIP has none. The model says it, else the patches.',
      ),
  })
  .meta({ id: 'Model' });

export const loraSection = z
  .strictObject({
    rank: count.default(16).describe('Rank r of the update B A.'),
    alpha: z
      .number()
      .positive()
      .default(32)
      .describe(
        'Scale: the update is multiplied by alpha / rank (rank-stabilised: alpha / sqrt(rank)).',
      ),
    dropout: z.number().min(0).lt(1).default(0).describe('Dropout on the input of A.'),
    targets: z
      .union([z.literal('all-linear'), z.array(text).min(1)])
      .default('all-linear')
      .describe(
        'Which linear layers: `all-linear` is all of the part but the head; else patterns over module names ' +
          '(`*` for anything), such as `*.q_proj`. One that matches nothing is an error.',
      ),
    rslora: z
      .boolean()
      .default(false)
      .describe('Rank-stabilised scale (Kalajdzievski 2023, arXiv 2312.03732).'),
    dora: z
      .boolean()
      .default(false)
      .describe(
        'Weight-decomposed adaptation: magnitudes train apart (Liu et al. 2024, arXiv 2402.09353).',
      ),
    loraPlusRatio: z
      .number()
      .min(1)
      .default(1)
      .describe('Learning rate of B over that of A: LoRA+ (Hayou et al. 2024, arXiv 2402.12354).'),
    modulesToSave: z
      .array(text)
      .default([])
      .describe(
        'Patterns of modules of this part that train fully beside the adapter, such as `lm_head`.',
      ),
  })
  .meta({ id: 'Lora' });

const lora = loraSection.describe('A low-rank adapter; the weights stay frozen.').optional();

/** What frozen weights can be kept in; those of a projector are few. */
const base = z
  .enum(['nf4', 'fp8'])
  .optional()
  .describe(
    'Form of the frozen weights: `nf4` keeps the matrices of its blocks in 4-bit NormalFloat (QLoRA, arXiv 2305.14314), as ' +
      'bitsandbytes does; `fp8` keeps them in 8 bits, a scale for each row, and multiplies in 8 bits, on GPUs from Ada and Hopper on. As they are stored, or as the checkpoint that the run starts from was trained, if left out.',
  );

const doubleQuantised = z
  .boolean()
  .default(false)
  .describe(
    'With `nf4`: keep its scales in 8 bits too (bnb_4bit_use_double_quant), 0.37 bits a weight less.',
  );

const choice = z.enum(['frozen', 'full']);

export const partSection = z
  .union([choice, z.strictObject({ lora, base, doubleQuantised })])
  .meta({ id: 'Part' });

export const trainSection = z
  .strictObject({
    vision: partSection.default('frozen').describe('The vision tower.'),
    projector: z
      .union([choice, z.strictObject({ lora: lora.unwrap() })])
      .default('full')
      .describe('The projector.'),
    decoder: partSection
      .prefault({ lora: {} })
      .describe('The language model, with embeddings and head where it trains fully.'),
  })
  .meta({ id: 'Train' });
