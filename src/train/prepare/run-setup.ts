/** What stays the same for every update of a run, made of a recipe, a model and a device. */

import type { EffectiveBatch, Recipe } from '../../config/index.js';
import type { SegmentedModel } from '../../models/index.js';
import { AdamW, AdaptiveClip, Gate, LossScale, StepSizes } from '../../optim/index.js';
import type { ChosenDevice, DType } from '../../torch/index.js';
import { AccumulatingStore } from '../step/accumulating-store.js';
import { sliceType } from '../step/gradient-reducer.js';
import { HostOptimizer } from '../step/host-optimizer.js';
import { ShardedStore } from '../step/sharded-store.js';
import { Shortage } from '../step/shortage.js';
import { ShardedUpdateInBackward } from '../step/sharded-update-in-backward.js';
import { memoryPolicies } from '../step/memory-policy.js';
import type { ParameterStore } from '../step/parameter-store.js';
import { Randomness } from '../step/randomness.js';
import { UpdateInBackward } from '../step/update-in-backward.js';
import type { UpdateSetup } from '../step/update.js';
import type { ChosenPrecision } from './precision.js';
import type { Sharding } from './shard-model.js';
import { courseOf, type RunPlan } from './run-plan.js';
import type { Trainable } from './trainable.js';

/** fp16 sums the losses of many tokens: kept small, they leave its range to the loss scale. */
const FP16_POWER = -10;

export interface UpdateSetupParts {
  readonly recipe: Recipe;
  readonly plan: RunPlan;
  readonly batching: Pick<EffectiveBatch, 'accumulate'>;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  readonly model: SegmentedModel;
  readonly trainable: Trainable;
  /** @default nothing is shared out */
  readonly sharding?: Sharding | null;
}

/**
 * The caller disposes of `store`, `clip` and `lossScale`.
 *
 * @throws UsageError `E_POLICY` for more blocks to keep than the model has
 */
export function makeUpdateSetup(parts: UpdateSetupParts): UpdateSetup {
  const { recipe, plan, device, precision, model } = parts;
  const { memory, seed } = recipe;
  const policies = memoryPolicies(model.segments, memory);
  const randomness = new Randomness(seed);
  // What was given to a device before the host learns of a bad update must not be applied.
  const gate = new Gate(device.device, { holds: true });
  const clip =
    recipe.optimizer.clipNorm === 'adaptive' ? new AdaptiveClip(device.device) : undefined;
  const shortage = isShared(parts) ? new Shortage() : undefined;
  return {
    ...(clip !== undefined && { clip }),
    ...{ model, device: device.device, policies, randomness, shortage },
    chunk: memory.lossChunk,
    gate,
    store: makeStore(parts, { randomness, gate, clip, shortage }),
    schedule: courseOf(plan),
    ...(precision.scaled && {
      lossScale: new LossScale(device.device, recipe.precision.lossScale),
      power: FP16_POWER,
    }),
  };
}

/** Whether other ranks wait for an update that runs out of memory, and it has changed nothing by its end. */
function isShared({ sharding, recipe }: UpdateSetupParts): boolean {
  return (sharding?.groups.world.size ?? 1) > 1 && !recipe.optimizer.updateInBackward;
}

interface StoreParts {
  readonly randomness: Randomness;
  readonly gate: Gate;
  readonly clip: AdaptiveClip | undefined;
  readonly shortage: Shortage | undefined;
}

function makeStore(
  { recipe, batching, precision, model, trainable, sharding }: UpdateSetupParts,
  { randomness, gate, clip, shortage }: StoreParts,
): ParameterStore {
  const { optimizer: settings, parallel } = recipe;
  const { betas, epsilon: eps } = settings;
  const clipNorm = settings.clipNorm === 'adaptive' ? clip : settings.clipNorm;
  const adamw = { betas, eps, master: precision.master, states: precision.states };
  if (sharding) {
    const { groups } = trainable;
    const { zero: stage, reshardAfterForward } = parallel;
    const reduction = reductionOf(parallel.reduction, precision);
    const microBatches = batching.accumulate ?? Infinity;
    const gradients = sliceType({ reduction, eachMicroBatch: stage >= 2 }, microBatches);
    const host =
      parallel.offload === 'none'
        ? undefined
        : new HostOptimizer(sharding.model, groups, { betas, eps, gradients });
    const optimizer = host?.adamw ?? new AdamW(sharding.model.groupsOf(groups), adamw);
    const parts = { optimizer, host, gate, randomness };
    const shared = { ...parts, ...sharding, stage, reduction, reshardAfterForward };
    return settings.updateInBackward
      ? new ShardedUpdateInBackward(shared)
      : new ShardedStore({
          ...{ ...shared, clipNorm, shortage },
          // In host memory weights move while the next update is under way.
          ...(host === undefined && { steps: new StepSizes(optimizer) }),
        });
  }
  const optimizer = new AdamW(trainable.groups, adamw);
  const parts = { optimizer, gate, randomness };
  return settings.updateInBackward
    ? new UpdateInBackward({ ...parts, model })
    : new AccumulatingStore({ ...parts, model, clipNorm, steps: new StepSizes(optimizer) });
}

/** Sums are as precise as the weights that they change. */
function reductionOf(
  wanted: Recipe['parallel']['reduction'],
  { master }: Pick<ChosenPrecision, 'master'>,
): DType {
  const type = wanted ?? (master === 'float32' ? 'fp32' : 'bf16');
  return type === 'fp32' ? 'float32' : 'bfloat16';
}
