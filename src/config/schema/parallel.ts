/** How the processes of a run share out its work and its memory. */
import { z } from 'zod';

import { count } from './fields.js';

export const parallelSection = z
  .strictObject({
    zero: z
      .union([z.literal(0), z.literal(1), z.literal(2), z.literal(3)])
      .default(0)
      .describe(
        'What each process keeps a share of alone (ZeRO): nothing (0), optimizer states (1), gradients too (2), weights too (3).',
      ),
    shardOver: count
      .optional()
      .describe(
        'Number of neighbouring processes that make a whole of their shares, such as those of one machine. All if left out.',
      ),
    offload: z
      .enum(['none', 'optimizer', 'parameters'])
      .default('none')
      .describe(
        'What lies in host memory: optimizer states, with which the CPU updates, or with `zero` 3 the weights too.',
      ),
    reduction: z
      .enum(['fp32', 'bf16'])
      .optional()
      .describe(
        'Type in which gradients are summed over processes. fp32 if left out and master weights are fp32, else bf16.',
      ),
    reshardAfterForward: z
      .boolean()
      .default(true)
      .describe(
        'Whether weights that were gathered for the forward pass are freed until the backward pass, with `zero` 3.',
      ),
  })
  .meta({ id: 'Parallel' });
