/** Which records are a rank's, in which micro-batches, and their batches on its device. */

import { makeBatch, type Batch } from '../../models/index.js';
import type { UpdateData } from '../../data/index.js';
import { hold, noGrad, openRange, type Holding } from '../../torch/index.js';
import type { Agreement } from './agreement.js';
import type { TrainerParts } from './trainer.js';

/** How updates are dealt to ranks, and how one hears of the others'. */
export function dealing(
  { recipe, ranks, batching }: Pick<TrainerParts, 'recipe' | 'ranks' | 'batching'>,
  agreement: Agreement | undefined,
  accumulate = 1,
) {
  const { batchSize = 1, batchTokens, batchImages } = recipe;
  return {
    ...(batchTokens === undefined
      ? { batchSize, accumulate }
      : { batchTokens, batchImages, effectiveBatch: batching.records }),
    ...{ rank: ranks.rank, worldSize: ranks.size },
    exchange: agreement?.exchange,
    // Of several ranks none stops where the others do not know of it.
    signal: ranks.size === 1 ? agreement?.signal : undefined,
  };
}

/** The micro-batches of an update; `null` for one without records. */
export function placedBatches(
  { model, device }: Pick<TrainerParts, 'model' | 'device'>,
  { microBatches }: UpdateData,
): Holding<(Batch | null)[]> {
  using _ = openRange('batch');
  const options = { device: device.device };
  return hold(() =>
    noGrad(() =>
      microBatches.map(({ samples }) =>
        samples.length === 0 ? null : makeBatch(samples, model.input, options),
      ),
    ),
  );
}
