/** Precision, optimizer, schedule and memory of the training step. */
import { z } from 'zod';

import { count, countOrZero, text } from './fields.js';

const lossScaleSection = z
  .strictObject({
    initial: z.number().positive().default(65_536).describe('Scale at the first update.'),
    window: count.default(1000).describe('Updates without overflow after which the scale doubles.'),
    hysteresis: count.default(2).describe('Overflows after which the scale halves.'),
    minimum: z.number().positive().default(1).describe('The scale never falls below this.'),
  })
  .meta({ id: 'LossScale' });

export const precisionSection = z
  .strictObject({
    compute: z
      .enum(['bf16', 'fp16', 'fp32'])
      .default('bf16')
      .describe(
        'Type of activations and of frozen weights. A device without bf16 falls back, and the reason is shown.',
      ),
    master: z
      .enum(['fp32', 'bf16'])
      .default('fp32')
      .describe('Type in which trained weights are kept; `bf16` rounds stochastically.'),
    states: z
      .enum(['fp32', 'bf16', 'int8'])
      .default('fp32')
      .describe(
        "Type of Adam's two moments; `int8` keeps them as bitsandbytes' 8-bit AdamW does, but for embeddings and tensors below " +
          '4,096 elements, whose stay fp32.',
      ),
    lossScale: lossScaleSection.prefault({}).describe('Dynamic loss scaling, with `fp16` only.'),
  })
  .meta({ id: 'Precision' });

const groupSection = z
  .strictObject({
    parameters: text.describe(
      'Pattern over parameter names (`*` for anything), such as `vision_tower.*`. The first group that matches ' +
        'holds; one that matches nothing is an error.',
    ),
    learningRate: z.number().min(0).optional().describe("In place of the optimizer's."),
    weightDecay: z.number().min(0).optional().describe("In place of the optimizer's."),
  })
  .meta({ id: 'ParameterGroup' });

export const optimizerSection = z
  .strictObject({
    learningRate: z.number().positive().describe('Peak learning rate of AdamW.'),
    betas: z
      .tuple([z.number().min(0).lt(1), z.number().min(0).lt(1)])
      .default([0.9, 0.999])
      .describe('Decay of the first and second moment.'),
    epsilon: z
      .number()
      .positive()
      .default(1e-8)
      .describe('Added to the root of the second moment.'),
    weightDecay: z.number().min(0).default(0).describe('Decoupled weight decay.'),
    decayNormsAndBiases: z
      .boolean()
      .default(false)
      .describe('Whether weight decay also applies to biases and to the weights of norms.'),
    groups: z
      .array(groupSection)
      .default([])
      .describe('Other learning rates and decays for some parameters.'),
    clipNorm: z
      .union([z.number().positive(), z.literal('adaptive')])
      .nullable()
      .default(1)
      .describe(
        'Largest norm of all gradients together; null does not clip, `adaptive` clips what is out of the ordinary for the run.',
      ),
    updateInBackward: z
      .boolean()
      .default(false)
      .describe(
        'Update each part as soon as its gradient is there, so that gradients never exist all at once. Excludes ' +
          'accumulation, clipping by the global norm and fp16.',
      ),
  })
  .meta({ id: 'Optimizer' });

export const scheduleSection = z
  .strictObject({
    epochs: z.number().positive().default(1).describe('Passes over the data.'),
    updates: count.optional().describe('Length of the run in updates; wins over `epochs`.'),
    decay: z
      .enum(['cosine', 'linear', 'constant'])
      .default('cosine')
      .describe('How the learning rate falls after the warm-up.'),
    warmupRatio: z
      .number()
      .min(0)
      .lt(1)
      .default(0.03)
      .describe('Share of the updates over which the learning rate rises linearly from 0.'),
    warmupUpdates: countOrZero
      .optional()
      .describe('Length of the warm-up in updates; wins over `warmupRatio`.'),
    finalRatio: z
      .number()
      .min(0)
      .max(1)
      .default(0)
      .describe('Learning rate at the end, as a share of the peak.'),
  })
  .meta({ id: 'Schedule' });

const memoryPolicy = z.enum(['keep', 'products', 'attention', 'recompute', 'offload']);
export type MemoryPolicy = z.infer<typeof memoryPolicy>;

/** Parts whose backward is not written by hand know no levels between. */
const plainPolicy = z.enum(['keep', 'recompute', 'offload']);

const blocksOfLevels = z
  .strictObject({
    keep: countOrZero.optional().describe('The last blocks, which keep everything.'),
    products: countOrZero.optional().describe('The blocks before those.'),
    attention: countOrZero.optional().describe('The blocks before those.'),
  })
  .meta({ id: 'BlocksOfLevels' });

export const memorySection = z
  .strictObject({
    policy: z
      .union([
        memoryPolicy,
        z.strictObject({
          vision: plainPolicy.optional().describe('Of the vision tower.'),
          projector: plainPolicy.optional().describe('Of the projector.'),
          decoder: memoryPolicy.optional().describe('Of the embeddings and the decoder.'),
        }),
      ])
      .default('recompute')
      .describe(
        'What a block leaves for its backward pass beside its input: everything, the results of products, that of attention, ' +
          'nothing, or nothing with the input in pinned host memory. One for all parts of the model, or one for each; a part ' +
          'that is left out recomputes. The levels between are for decoder blocks: under them everything else recomputes.',
      ),
    keepBlocks: z
      .union([
        countOrZero,
        z.strictObject({
          vision: countOrZero.optional().describe('Of the vision tower.'),
          decoder: z
            .union([countOrZero, blocksOfLevels])
            .optional()
            .describe('Of the decoder: a number that keep everything, or one for each level.'),
        }),
      ])
      .default(0)
      .describe(
        'Blocks that keep more than the policy says, counted from the top: a number for the decoder, or one for each part.',
      ),
    limit: z
      .number()
      .positive()
      .optional()
      .describe(
        'GiB of a device that a process may allocate, where others need the rest. All if left out.',
      ),
    lossChunk: count
      .default(1024)
      .describe('Supervised tokens for which logits are held at the same time.'),
  })
  .meta({ id: 'Memory' });
