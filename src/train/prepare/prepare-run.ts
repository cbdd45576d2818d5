/** Everything between a recipe and the first update: device, batch, model, data, what trains; and what to say about it. */

import { UsageError } from '../../base/errors.js';
import { effectiveBatch, type EffectiveBatch, type Recipe } from '../../config/index.js';
import { formatWarnings, openDataset, type Dataset, type FormatWarning } from '../../data/index.js';
import {
  chooseDevice,
  type ChosenDevice,
  RandomGenerator,
  setMemoryLimit,
  setThreads,
  torchFacts,
} from '../../torch/index.js';
import type { LoadingEvent, StartEvent } from '../events.js';
import { planWeights, type WeightsPlan } from '../checkpoint/plan-weights.js';
import { foldOtherForm } from '../checkpoint/contents.js';
import { takeFrozen } from '../checkpoint/frozen-parts.js';
import { openModel, type OpenedModel, type OpenModelOptions } from './open-model.js';
import { describePacking } from './packing.js';
import { describeTasks, openTasks, requireVision, type RunTask } from './open-tasks.js';
import { describePictures } from './picture-mode.js';
import { planRun, type RunPlan } from './run-plan.js';
import { choosePrecision, type ChosenPrecision } from './precision.js';
import { requireFiles } from './required-files.js';
import { baseChoices, requireBeneath, requireForms } from './bases.js';
import { stateChoices } from './int8-states.js';
import { prepareTrainable, type Trainable } from './trainable.js';
import { shardModel, type Sharding } from './shard-model.js';
import type { RankGroups } from '../step/rank-groups.js';
import type { ShardedModel } from '../step/sharded-model.js';
import type { Ranks } from '../run/ranks.js';

export interface PreparedRun {
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  readonly batching: EffectiveBatch;
  readonly opened: OpenedModel;
  readonly data: Dataset;
  /** What is asked at each validation. */
  readonly tasks: readonly RunTask[];
  readonly trainable: Trainable;
  /** What several ranks share out; freed by the store that is made of it. */
  readonly sharding: Sharding | null;
  /** What its checkpoints will be. */
  readonly saved: WeightsPlan;
  readonly plan: RunPlan;
  /** What the run will tell at its start; it has no folder yet. */
  readonly start: StartEvent;
  /** What is odd about the format that records are written in. */
  readonly oddFormat: readonly FormatWarning[];
  close(): Promise<void>;
}

export interface PrepareOptions extends Omit<OpenModelOptions, 'device' | 'dtype'> {
  /** From which the run goes on. @default it begins */
  readonly checkpoint?: string | undefined;
  readonly ranks: Ranks;
  /** Who shares what with whom; `null` for a process that shares nothing out. */
  readonly groups: RankGroups | null;
}

/**
 * What costs nothing is checked first, then the model is loaded and the data opened.
 *
 * @throws UsageError for a recipe that cannot be followed; DataError, EnvironmentError; the signal's reason
 */
export async function* prepareRun(
  recipe: Recipe,
  { checkpoint, ranks, groups, ...options }: PrepareOptions,
): AsyncGenerator<LoadingEvent, PreparedRun> {
  const { signal, onDownload, found } = options;
  if (recipe.threads !== undefined && recipe.threads !== torchFacts().threads) {
    setThreads(recipe.threads);
  }
  const device = chooseDevice(ranks.world?.device ?? recipe.device);
  const precision = choosePrecision(recipe.precision, device);
  const batching = effectiveBatch(recipe, ranks.size);
  if (recipe.optimizer.updateInBackward) refuseLateFactors(precision, batching);
  requireFiles(recipe, found);
  const tasks = await openTasks(recipe);

  const closers: (() => unknown)[] = [];
  const close = async (): Promise<void> => {
    for (const each of closers.splice(0).reverse()) await each();
  };
  let ready = false;
  let unowned: ShardedModel | undefined;
  const { limit } = recipe.memory;
  try {
    if (limit !== undefined) {
      setMemoryLimit(device.device, limit * 2 ** 30);
      closers.push(() => setMemoryLimit(device.device, null));
    }
    yield { type: 'loading', what: 'loading the model' };
    const dtype = precision.compute;
    let opened = await openModel(recipe, {
      ...{ ...options, dtype, device: device.device },
      // No rank holds the model, not even while it is loaded.
      hollow: groups !== null && recipe.parallel.zero === 3,
    });
    closers.push(() => opened.model.dispose());
    if (opened.pictures === null) requireVision(tasks);
    if (checkpoint !== undefined) {
      const { model, isBeneath, sources } = opened;
      const { train, seed } = recipe;
      const kept = await takeFrozen(model, checkpoint, {
        ...{ train, seed, dtype, sources },
        device: device.device,
      });
      opened = { ...opened, isBeneath: (name) => !kept.has(name) && isBeneath(name) };
    }

    yield { type: 'loading', what: 'opening the data' };
    const { model, tokenizer, pictures, format, stopTokens, text, sources } = opened;
    const data = await openDataset(
      { ...recipe, text },
      {
        tokenizer,
        input: model.input,
        context: model.decoder.config.maxPositionEmbeddings,
        mode: pictures?.mode,
        background: pictures?.background,
        processes: ranks.here,
        signal,
        onDownload,
      },
    );
    closers.push(() => data.close());

    const generator = RandomGenerator.create(recipe.seed, device.device);
    closers.push(() => generator.dispose());
    const chosen = prepareTrainable(model, {
      ...recipe,
      dtype,
      device: device.device,
      generator,
      sources: sources && { from: sources, seed: recipe.seed },
      learningRateScale: batching.learningRateScale,
    });

    const { parallel } = recipe;
    // While the weights are still there as a whole, or known.
    const folded = foldOtherForm({ model, trainable: chosen, sources });
    const { isBeneath } = opened;
    opened = { ...opened, isBeneath: (name) => !folded.has(name) && isBeneath(name) };
    requireForms(model, recipe.train);
    requireBeneath(model, opened.isBeneath);
    const shares = groups === null || parallel.zero === 0 ? 1 : groups.shards.size;
    const choices = [
      ...baseChoices(model, device.device),
      ...stateChoices(chosen.groups, { precision, shares }),
    ];
    const { sharding, trainable } = await shardModel(model, chosen, {
      ...{ groups, parallel, precision, sources, signal },
      device: device.device,
    });
    unowned = sharding?.model;

    const saved = await planWeights({ recipe, opened, trainable, data, dtype, signal });
    const plan = planRun(recipe, batching, data);
    const packing = await describePacking(recipe, { data, worldSize: ranks.size, signal });
    const start: StartEvent = {
      type: 'start',
      recipe: recipe.name,
      run: null,
      resumedFrom: 0,
      device: device.name,
      statements: [
        ...[precision.statement, batching.statement, ...packing],
        ...describePictures(pictures),
        ...describeTasks(tasks),
      ],
      table: trainable.table,
      choices,
      parameters: {
        trained: sum(trainable.table.filter(({ learningRate }) => learningRate !== null)),
        total: sum(trainable.table),
      },
      data: {
        sources: data.sources,
        recordsPerEpoch: data.recordsPerEpoch,
        validationRecords: data.validationRecords,
      },
      updates: updatesOf(plan),
    };
    ready = true;
    const oddFormat = formatWarnings(format, stopTokens);
    return {
      ...{ device, precision, batching, opened, data, tasks, trainable, sharding, saved },
      ...{ plan, start, oddFormat, close },
    };
  } finally {
    if (!ready) {
      unowned?.dispose();
      await close();
    }
  }
}

/** What is told of a plan. */
export function updatesOf({ planned, perEpoch, warmup, epochs }: RunPlan): StartEvent['updates'] {
  return { planned, perEpoch, warmup, epochs };
}

/** What the schema cannot see: accumulation that follows from the batch, and fp16 in place of a bf16 that the device lacks. */
export function refuseLateFactors(
  { scaled, statement }: Pick<ChosenPrecision, 'scaled' | 'statement'>,
  { accumulate }: Pick<EffectiveBatch, 'accumulate'>,
): void {
  const code = 'E_UPDATE_IN_BACKWARD';
  if (accumulate !== null && accumulate > 1) {
    throw new UsageError(
      `optimizer.updateInBackward excludes accumulation, and the recipe accumulates ${accumulate} micro-batches.`,
      { code, hint: 'Set `accumulate` to 1, or `updateInBackward` to false.' },
    );
  }
  if (scaled) {
    throw new UsageError(`optimizer.updateInBackward excludes fp16, and the run ${statement}.`, {
      code,
      hint: 'Set `precision.compute` to fp32, or `updateInBackward` to false.',
    });
  }
}

function sum(rows: readonly { readonly parameters: number }[]): number {
  return rows.reduce((total, { parameters }) => total + parameters, 0);
}
