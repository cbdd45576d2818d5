/** What stays the same for every update of a run, made from its recipe: optimizer, schedule, policies, random numbers. */

import type { Recipe } from '../../config/index.js';
import type { SegmentedModel } from '../../models/index.js';
import { AdamW, LossScale, schedule } from '../../optim/index.js';
import type { ChosenDevice } from '../../torch/index.js';
import { memoryPolicies } from '../step/memory-policy.js';
import type { RunPlan } from './plan-run.js';
import type { ChosenPrecision } from './precision.js';
import { Randomness } from '../step/randomness.js';
import type { Trainable } from './trainable.js';
import type { UpdateSetup } from '../step/update.js';

/** fp16 sums the losses of many tokens: kept small, they leave its range to the loss scale. */
const FP16_POWER = -10;

export interface UpdateSetupParts {
  readonly recipe: Recipe;
  readonly plan: RunPlan;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  readonly model: SegmentedModel;
  readonly trainable: Trainable;
}

/** The caller disposes of `optimizer`, `randomness` and `lossScale`. */
export function makeUpdateSetup({
  recipe,
  plan,
  device: { device },
  precision,
  model,
  trainable,
}: UpdateSetupParts): UpdateSetup {
  const { optimizer, memory, seed } = recipe;
  return {
    model,
    device,
    policies: memoryPolicies(model.segments, {
      policy: memory.policy,
      keep: Math.min(memory.keepBlocks, model.segments.length),
    }),
    chunk: memory.lossChunk,
    optimizer: new AdamW(trainable.groups, {
      betas: optimizer.betas,
      eps: optimizer.epsilon,
      master: precision.master,
      states: precision.states,
    }),
    schedule: schedule({
      shape: recipe.schedule.decay,
      updates: plan.planned,
      warmup: plan.warmup,
      floor: recipe.schedule.finalRatio,
    }),
    randomness: new Randomness(seed, device),
    clipNorm: optimizer.clipNorm,
    updateInBackward: optimizer.updateInBackward,
    ...(precision.scaled && {
      lossScale: new LossScale(device, recipe.precision.lossScale),
      power: FP16_POWER,
    }),
  };
}
