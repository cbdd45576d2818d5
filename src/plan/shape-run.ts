/**
 * A run for records of given shapes, without files: the model with drawn weights, its optimizer and the step program. On the meta device it
 * is the planner's ghost run, on a card what that is held against. Nothing here computes what a run does: it calls the functions that a run
 * calls.
 */

import type { Recipe } from '../config/index.js';
import { effectiveBatch } from '../config/index.js';
import { drive, ParameterSources, type LanguageModel } from '../models/index.js';
import { linearsOf } from '../nn/index.js';
import {
  empty,
  noGrad,
  RandomGenerator,
  scope,
  type ChosenDevice,
  type Device,
  type Tensor,
} from '../torch/index.js';
import type { BetweenUpdates, RecordShape } from '../train/index.js';
import type { ChosenPrecision } from '../train/prepare/precision.js';
import { planRun } from '../train/prepare/run-plan.js';
import { makeUpdateSetup } from '../train/prepare/run-setup.js';
import { shardModel } from '../train/prepare/shard-model.js';
import { prepareTrainable } from '../train/prepare/trainable.js';
import { updateRange } from '../train/profile/ranges.js';
import type { LateNumbers } from '../train/step/late-numbers.js';
import type { ParameterStore } from '../train/step/parameter-store.js';
import type { RankGroups } from '../train/step/rank-groups.js';
import { runUpdate, type UpdateNumbers } from '../train/step/update.js';
import { Pauses } from './pauses.js';
import { batchesOf } from './shape-batches.js';
import type { BETWEEN } from './timeline.js';

export interface ShapeRunOptions {
  readonly recipe: Recipe;
  /** Without weights: they are drawn. */
  readonly model: LanguageModel;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  /** `null` for a process that shares nothing out. */
  readonly groups: RankGroups | null;
  readonly ranks: number;
  /** The micro-batches of an update of this rank. */
  readonly batches: readonly (readonly RecordShape[])[];
  /** The first one makes what lasts. */
  readonly updates: number;
  /** What comes after the first update. @default nothing */
  readonly between?: BetweenUpdates | undefined;
}

/** What has just been done, and the optimizer's store. */
export interface ShapeStep {
  readonly store: ParameterStore;
  readonly what: 'load' | 'update' | (typeof BETWEEN)[number];
}

/**
 * Gives the optimizer's store when all that lasts is there, but for what the first update makes, and again after each update and each thing
 * that comes between two. Updates follow one another as in a run: the numbers of each are read when the next has been given out. In the end the
 * model is left with its weights, nothing else.
 */
export async function* shapeSteps(options: ShapeRunOptions): AsyncGenerator<ShapeStep, void> {
  const { recipe, model, device: chosen, precision, groups, ranks, batches, updates } = options;
  const { device } = chosen;
  const owned: { dispose(): void }[] = [];
  try {
    const dtype = precision.compute;
    const generator = RandomGenerator.create(recipe.seed, device);
    owned.push(generator);
    drawForms(model, { device, generator });
    const sources =
      groups !== null && recipe.parallel.zero === 3 ? new ParameterSources('the plan') : null;
    const trained = prepareTrainable(model, {
      ...{ ...recipe, dtype, generator, device },
      sources: sources && { from: sources, seed: recipe.seed },
    });
    const { sharding, trainable } = await shardModel(model, trained, {
      ...{ groups, precision, sources, parallel: recipe.parallel },
      device,
    });
    const batching = effectiveBatch(recipe, ranks);
    const plan = planRun(recipe, batching, { recordsPerEpoch: batching.records * updates });
    const parts = { recipe, plan, batching, device: chosen, precision, model, trainable, sharding };
    const setup = makeUpdateSetup({
      ...parts,
      batching: { ...batching, accumulate: batches.length },
    });
    owned.push(setup.store, ...(setup.lossScale === undefined ? [] : [setup.lossScale]));
    const { store } = setup;
    const pauses = options.between && new Pauses({ ...options, setup, trainable }, options.between);
    if (pauses !== undefined) owned.push(pauses);
    let late: LateNumbers<UpdateNumbers> | null = null;
    owned.push({ dispose: () => late?.dispose() });
    yield { store, what: 'load' };
    const supervised = sum(batches.flat().map((each) => each.supervised)) * ranks;
    const pictures = batches.flat().some(({ images }) => images > 0);
    for (let update = 0; update < updates; update++) {
      await pauses?.snapshot(update);
      const before: LateNumbers<UpdateNumbers> | null = late;
      {
        using _ = updateRange(update);
        using placed = batchesOf(model, batches, device);
        const facts = { supervised, pictures };
        late = (await drive(runUpdate(setup, update, placed.value, facts))).numbers;
      }
      before?.read();
      yield { store, what: 'update' };
      if (update > 0 || pauses === undefined) continue;
      late.read();
      late = null;
      for await (const what of pauses.all()) yield { store, what };
    }
  } finally {
    for (const each of owned.reverse()) each.dispose();
  }
}

/** Weights in few bits are drawn and quantised one after another, as they are read. */
function drawForms(
  model: LanguageModel,
  { device, generator }: { device: Device; generator: RandomGenerator },
): void {
  for (const [, linear] of linearsOf(model)) {
    const { form, dtype } = linear.base;
    if (form === undefined) continue;
    scope(() =>
      noGrad(() => {
        const size = [linear.outFeatures, linear.inFeatures];
        const drawn = empty(size, { dtype, device }).normal_(0, 0.02, { generator });
        const parts = form.quantise(drawn) as Readonly<Record<string, Tensor>>;
        for (const part of Object.values(parts)) part.keep();
        linear.loadParts(parts);
      }),
    );
  }
}

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
