/** What stays the same for every update of a run, made of a recipe, a model and a device. */

import type { Recipe } from '../../config/index.js';
import type { SegmentedModel } from '../../models/index.js';
import { AdamW, Gate, LossScale } from '../../optim/index.js';
import type { ChosenDevice } from '../../torch/index.js';
import { AccumulatingStore } from '../step/accumulating-store.js';
import { memoryPolicies } from '../step/memory-policy.js';
import type { ParameterStore } from '../step/parameter-store.js';
import { Randomness } from '../step/randomness.js';
import { UpdateInBackward } from '../step/update-in-backward.js';
import type { UpdateSetup } from '../step/update.js';
import type { ChosenPrecision } from './precision.js';
import { courseOf, type RunPlan } from './run-plan.js';
import type { Trainable } from './trainable.js';

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

/**
 * The caller disposes of `store`, `randomness` and `lossScale`.
 *
 * @throws UsageError `E_POLICY` for more blocks to keep than the model has
 */
export function makeUpdateSetup({
  recipe,
  plan,
  device: { device },
  precision,
  model,
  trainable,
}: UpdateSetupParts): UpdateSetup {
  const { memory, seed } = recipe;
  const policies = memoryPolicies(model.segments, memory);
  const randomness = new Randomness(seed);
  return {
    ...{ model, device, policies, randomness },
    chunk: memory.lossChunk,
    store: makeStore({ recipe, device: { device }, precision, model, trainable }, randomness),
    schedule: courseOf(plan),
    ...(precision.scaled && {
      lossScale: new LossScale(device, recipe.precision.lossScale),
      power: FP16_POWER,
    }),
  };
}

function makeStore(
  {
    recipe: { optimizer: settings },
    device: { device },
    precision,
    model,
    trainable,
  }: Omit<UpdateSetupParts, 'plan' | 'device'> & { device: Pick<ChosenDevice, 'device'> },
  randomness: Randomness,
): ParameterStore {
  const optimizer = new AdamW(trainable.groups, {
    betas: settings.betas,
    eps: settings.epsilon,
    master: precision.master,
    states: precision.states,
  });
  const parts = { model, optimizer, gate: new Gate(device), randomness };
  return settings.updateInBackward
    ? new UpdateInBackward(parts)
    : new AccumulatingStore({ ...parts, clipNorm: settings.clipNorm });
}
