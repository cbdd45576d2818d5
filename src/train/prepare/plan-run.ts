/** How many updates a recipe makes of its data, and how many of them warm up. */

import type { EffectiveBatch, Recipe } from '../../config/index.js';
import type { Dataset } from '../../data/index.js';

export interface RunPlan {
  /** Updates of an epoch. */
  readonly perEpoch: number;
  /** Updates of the run. */
  readonly planned: number;
  readonly warmup: number;
}

export function planRun(
  { schedule: { updates, epochs, warmupUpdates, warmupRatio }, batchSize }: Recipe,
  { accumulate }: Pick<EffectiveBatch, 'accumulate'>,
  data: Pick<Dataset, 'updatesPerEpoch'>,
): RunPlan {
  const perEpoch = data.updatesPerEpoch({ batchSize, accumulate });
  const planned = updates ?? Math.max(1, Math.ceil(epochs * perEpoch));
  return { perEpoch, planned, warmup: warmupUpdates ?? Math.ceil(warmupRatio * planned) };
}
