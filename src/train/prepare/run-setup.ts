/** What a recipe makes of a model and its data: how many updates, and what stays the same for every one of them. */

import type { EffectiveBatch, Recipe } from '../../config/index.js';
import type { Dataset } from '../../data/index.js';
import type { SegmentedModel } from '../../models/index.js';
import { AdamW, Gate, LossScale, schedule } from '../../optim/index.js';
import type { ChosenDevice } from '../../torch/index.js';
import { AccumulatingStore } from '../step/accumulating-store.js';
import { memoryPolicies } from '../step/memory-policy.js';
import type { ParameterStore } from '../step/parameter-store.js';
import { Randomness } from '../step/randomness.js';
import { UpdateInBackward } from '../step/update-in-backward.js';
import type { UpdateSetup } from '../step/update.js';
import type { ChosenPrecision } from './precision.js';
import type { Trainable } from './trainable.js';

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
  const randomness = new Randomness(seed, device);
  return {
    ...{ model, device, policies, randomness },
    chunk: memory.lossChunk,
    store: makeStore({ recipe, device: { device }, precision, model, trainable }, randomness),
    schedule: schedule({
      shape: recipe.schedule.decay,
      updates: plan.planned,
      warmup: plan.warmup,
      floor: recipe.schedule.finalRatio,
    }),
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
