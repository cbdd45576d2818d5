/** The seam between a run and who plans for it: what memory an update should take. How that is found lies in another room. */

import type { Recipe } from '../../config/index.js';
import type { LanguageModel } from '../../models/index.js';
import type { ChosenDevice } from '../../torch/index.js';
import type { MemoryPeaks } from '../events.js';
import type { ChosenPrecision } from '../prepare/precision.js';
import type { UpdateShape } from './heaviest.js';

/** A run, as far as its memory depends on it. */
export interface PlannedFor {
  readonly recipe: Recipe;
  readonly model: LanguageModel;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  readonly ranks: number;
  /** The micro-batches of the update. */
  readonly batches: UpdateShape;
}

export interface Prediction extends MemoryPeaks {
  /** Bytes of what is alive at the peak by what it is for; empty where nothing tells. */
  readonly atPeak: Readonly<Record<string, number>>;
}

export type Predict = (run: PlannedFor) => Promise<Prediction>;

/** Categories of a plan that outlast an update. */
const LASTING = ['frozen weights', 'trained weights', 'masters', 'optimizer'];

/**
 * Which part of a plan was passed by more: what outlasts an update, which is counted once one is abandoned, or all that an update adds.
 *
 * @param measured bytes at most, and of what lasts
 * @returns `lasting`, `update`, or `null` where neither was (the device has less than was planned for, or others hold it) or the plan has
 *   no categories
 */
export function overshotOf(
  { allocated, atPeak }: Prediction,
  measured: { readonly allocated: number; readonly lasting: number },
): 'lasting' | 'update' | null {
  if (Object.keys(atPeak).length === 0) return null;
  const planned = LASTING.reduce((sum, name) => sum + (atPeak[name] ?? 0), 0);
  const lasting = measured.lasting - planned;
  const update = measured.allocated - measured.lasting - (allocated - planned);
  if (Math.max(lasting, update) <= 0) return null;
  return lasting > update ? 'lasting' : 'update';
}
