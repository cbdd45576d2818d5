/** Rows of `bench/plan.ts` as runs that later plans are made by. */

import { isCardBound, kindOf, type MeasuredRun } from '../src/plan/calibration/calibration.js';
import {
  calibrationPath,
  keepRun,
  versionsHere,
} from '../src/plan/calibration/calibration-file.js';
import { chooseDevice } from '../src/torch/index.js';
import { recipeOf } from './plan-config.js';
import type { PlanRow } from './plan-summary.js';

/** Keeps what a row says of its card, if it says anything. @throws those of `keepRun` */
export async function keepRow(row: PlanRow, device: string): Promise<void> {
  const path = calibrationPath();
  const { device: kind, name } = chooseDevice(device);
  if (path === null || kind === 'cpu') return;
  const found = runOf(row);
  if (found === null) return;
  await keepRun(path, {
    ...found,
    ...{ at: new Date().toISOString(), card: name, ...versionsHere() },
  });
}

/** At a limit the allocator is busy with giving back; that is no speed of the card's. */
export function runOf({
  predicted,
  measured,
  config,
}: PlanRow): Omit<MeasuredRun, 'at' | 'card' | 'libtorch' | 'patina'> | null {
  if (predicted === null || 'failed' in measured) return null;
  const recipe = recipeOf(config);
  if (recipe.memory.limit !== undefined) return null;
  const { context, seconds } = measured;
  return {
    ...{ ranks: config.ranks, kind: kindOf(recipe), context },
    time: seconds !== null && isCardBound(predicted) ? seconds / predicted.seconds : null,
  };
}
