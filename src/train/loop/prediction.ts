/** The seam between a run and who plans for it: what memory an update should take. How that is found lies in another room. */

import type { Recipe } from '../../config/index.js';
import type { LanguageModel } from '../../models/index.js';
import type { ChosenDevice } from '../../torch/index.js';
import type { ProcessPeaks } from '../events.js';
import type { ChosenPrecision } from '../prepare/precision.js';
import type { RecordShape } from '../../data/index.js';
import type { UpdateShape } from './heaviest.js';

/** A question of a probe as it is put to the model, and the longest answer. */
export interface ProbeShape {
  /** All of the prompt, those of pictures included. */
  readonly tokens: number;
  readonly images: number;
  readonly newTokens: number;
}

/** What a run does between two updates, as far as its memory depends on it. */
export interface BetweenUpdates {
  /** The heaviest micro-batch of a validation. @default nothing is validated */
  readonly validation?: readonly RecordShape[];
  /** @default nothing is asked */
  readonly probes?: readonly ProbeShape[];
  /** Whether the models beneath give a parameter by itself, so that a checkpoint need not hold it. */
  readonly isBeneath: (name: string) => boolean;
  /** Whether the copies of a checkpoint are still there in the update after it. @default true */
  readonly copiesLast?: boolean;
}

/** An update as time depends on it. */
export interface TypicalUpdate {
  /** One of its micro-batches. */
  readonly batch: readonly RecordShape[];
  /** How many of these it is worth, which need not be a whole number. */
  readonly microBatches: number;
}

/** A run, as far as its memory depends on it, and its time. */
export interface PlannedFor {
  readonly recipe: Recipe;
  readonly model: LanguageModel;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  readonly ranks: number;
  /** The micro-batches of the update. */
  readonly batches: UpdateShape;
  /** @default nothing but updates */
  readonly between?: BetweenUpdates | undefined;
  /** What time is asked for. @default none */
  readonly typical?: TypicalUpdate | undefined;
}

export interface Prediction extends ProcessPeaks {
  /** Bytes of what is alive at the peak by what it is for; empty where nothing tells. */
  readonly atPeak: Readonly<Record<string, number>>;
  /** Of a typical update; absent where none was asked for, or nothing tells. */
  readonly seconds?: number;
  /** Runs before this one that the time follows from. @default none: the planner's own figures */
  readonly earlierRuns?: number;
}

/** What a run has done between its updates. */
export interface DoneBetween {
  /** The heaviest micro-batch that it has validated on; empty: none. */
  readonly validation: readonly RecordShape[];
  /** Whether its probes were asked. */
  readonly asked: boolean;
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
