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
import { explainError } from './diagnose/errors.js';
import { RunGuard } from './run-guard.js';

export const makeGuard: MakeGuard = (recipe) => new RunGuard(recipe);

/** Of what ends a run before it begins, its cause is told too: of what comes later, its guard tells. */
async function* explained(
  events: AsyncGenerator<TrainEvent, void>,
): AsyncGenerator<TrainEvent, void> {
  let begun = false;
  try {
    for await (const event of events) {
      begun ||= event.type === 'start';
      yield event;
    }
  } catch (error) {
    const diagnosis = begun ? null : explainError(error, 0);
    if (diagnosis !== null) yield diagnosis;
    throw error;
  }
}

/** `train` of the room of training, with a guard. */
export function train(
  recipe: RecipeInput | Recipe,
  options: TrainOptions = {},
): AsyncGenerator<TrainEvent, void> {
  return explained(trainUnguarded(recipe, { guard: makeGuard, firstLook, ...options }));
}

/** `resumeRun` of the room of training, with a guard. */
export function resumeRun(
  folder: string,
  options: ResumeOptions = {},
): AsyncGenerator<TrainEvent, void> {
  return explained(resumeUnguarded(folder, { guard: makeGuard, ...options }));
}
