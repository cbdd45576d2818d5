/** What to change where memory did not suffice, by what the recipe does not do yet: the hint of such an error. */

import { OutOfMemoryError } from '../../base/errors.js';
import type { Recipe } from '../../config/index.js';
import { isCommon, makeCommon } from '../../parallel/index.js';

type Fields = Pick<
  Recipe,
  'parallel' | 'precision' | 'train' | 'memory' | 'batchSize' | 'batchTokens'
>;

/** Of an update whose micro-batches have one record each already: smaller ones there are none. */
export class RecordTooLargeError extends OutOfMemoryError {}

/**
 * Proposals, those that cost least first.
 *
 * @param alone whether one record by itself was too much
 */
export function whatWouldFit(
  { parallel: { zero, offload }, precision, train, memory, batchSize = 1, batchTokens }: Fields,
  ranks: number,
  alone = false,
): string {
  const isFull = Object.values(train).includes('full');
  const { decoder } = train;
  const isWide = typeof decoder === 'object' && decoder.base === undefined;
  const keeps = memory.policy !== 'recompute' && memory.policy !== 'offload';
  const proposals = [
    ...(alone || batchTokens === undefined ? [] : [`\`batchTokens\` below ${batchTokens}`]),
    ...(!alone && batchSize > 1 ? [`\`batchSize\` below ${batchSize}, with more accumulated`] : []),
    ...(keeps || memory.keepBlocks !== 0
      ? ['`memory.policy: recompute` without `keepBlocks`']
      : []),
    ...(ranks > 1 && zero < 2 && isFull ? ['`parallel.zero: 2`'] : []),
    ...(ranks > 1 && zero < 3 ? ['`parallel.zero: 3`'] : []),
    ...(isFull && offload === 'none' && precision.states !== 'int8'
      ? ["`precision.states: int8`, Adam's moments in 2 bytes a parameter"]
      : []),
    ...(isFull && offload === 'none' && precision.states === 'fp32'
      ? ['`parallel.offload: optimizer`, in host memory of 16 bytes a parameter']
      : []),
    ...(ranks > 1 && zero === 3 && offload === 'optimizer'
      ? ['`parallel.offload: parameters`']
      : []),
    ranks > 1
      ? `more processes than ${ranks}${zero === 0 ? '' : ', each of which then holds less'}`
      : 'several GPUs that share weights, gradients and optimizer out (`--nproc gpus` with `parallel.zero: 3`)',
    ...(isWide ? ['`train.decoder.base: nf4`, frozen weights in 4 bits'] : []),
    ...(isFull ? ['a LoRA in place of `full`'] : ['a smaller rank of the LoRA']),
  ];
  return `Try, in this order: ${proposals.join('; ')}.`;
}

/** The same error, and for one without memory what would fit. */
export function withWhatWouldFit(error: unknown, recipe: Fields, ranks: number): unknown {
  if (!(error instanceof OutOfMemoryError) || error.code === 'E_WORKER_MEMORY') return error;
  const { message, code } = error;
  const hint = whatWouldFit(recipe, ranks, error instanceof RecordTooLargeError);
  const advised = new OutOfMemoryError(message, { code, hint, cause: error });
  return isCommon(error) ? makeCommon(advised) : advised;
}
