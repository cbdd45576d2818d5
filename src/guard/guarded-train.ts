/**
 * `train` and `resumeRun` with a guard: a run that begins is looked at first, and bad updates are examined, told of, and answered as
 * the recipe says.
 */

import type { Recipe, RecipeInput } from '../config/index.js';
import {
  resumeRun as resumeUnguarded,
  train as trainUnguarded,
  type MakeGuard,
  type ResumeOptions,
  type TrainEvent,
  type TrainOptions,
} from '../train/index.js';
import { firstLook } from './check/first-look.js';
import { RunGuard } from './run-guard.js';

export const makeGuard: MakeGuard = (recipe) => new RunGuard(recipe);

/** `train` of the room of training, with a guard. */
export function train(
  recipe: RecipeInput | Recipe,
  options: TrainOptions = {},
): AsyncGenerator<TrainEvent, void> {
  return trainUnguarded(recipe, { guard: makeGuard, firstLook, ...options });
}

/** `resumeRun` of the room of training, with a guard. */
export function resumeRun(
  folder: string,
  options: ResumeOptions = {},
): AsyncGenerator<TrainEvent, void> {
  return resumeUnguarded(folder, { guard: makeGuard, ...options });
}
