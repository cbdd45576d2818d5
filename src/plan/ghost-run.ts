/** A ghost run: that of a recipe and records on tensors of the meta device, as one rank of any number, and what it asks of the device. */

import type { Recipe } from '../config/index.js';
import type { LanguageModel } from '../models/index.js';
import { ProcessGroup } from '../parallel/index.js';
import {
  startGhostTrace,
  tracedBlock,
  type ChosenDevice,
  type Tensor,
  type TraceLine,
} from '../torch/index.js';
import type { BetweenUpdates, RecordShape } from '../train/index.js';
import { choosePrecision, type ChosenPrecision } from '../train/prepare/precision.js';
import type { ParameterStore } from '../train/step/parameter-store.js';
import { aloneGroups, openRankGroups, type RankGroups } from '../train/step/rank-groups.js';
import type { Category, Known } from './categories.js';
import type { Card } from './devices/cards.js';
import { hollowModel, type ModelConfig } from './shape-model.js';
import { shapeSteps } from './shape-run.js';

export interface GhostOptions {
  readonly recipe: Recipe;
  readonly model: ModelConfig;
  readonly card: Card;
  /** @default 0 */
  readonly rank?: number;
  /** @default 1 */
  readonly ranks?: number;
  /** The micro-batches of an update of this rank. */
  readonly batches: readonly (readonly RecordShape[])[];
  /** The first one makes what lasts. @default 2 */
  readonly updates?: number;
  /** What comes after the first update. @default nothing */
  readonly between?: BetweenUpdates | undefined;
  /** @default what the recipe asks for */
  readonly precision?: ChosenPrecision;
  /** Whose kernels run. @default `cuda` */
  readonly kernels?: 'cpu' | 'cuda';
}

export interface Ghost {
  readonly lines: Iterable<TraceLine>;
  /** What lasting tensors are, by block. */
  readonly known: ReadonlyMap<number, Known>;
}

/** Runs so many updates, and gives what they asked of the device. */
export async function ghostRun(options: GhostOptions): Promise<Ghost> {
  const steps: Ghost[] = [];
  for await (const step of ghostSteps(options)) steps.push(step);
  return oneAfterTheOther(steps);
}

/** Steps as one run. */
export function oneAfterTheOther(steps: readonly Ghost[]): Ghost {
  const lines = {
    *[Symbol.iterator]() {
      for (const step of steps) yield* step.lines;
    },
  };
  return { lines, known: steps.at(-1)!.known };
}

/** The same step by step: gives the lines of the model's making, then those of each update. */
export async function* ghostSteps(options: GhostOptions): AsyncGenerator<Ghost, void> {
  const { recipe, card, rank = 0, ranks = 1, batches, updates = 2 } = options;
  const device: ChosenDevice = {
    ...{ device: 'meta', name: card.name, capability: card.computeCapability },
    totalBytes: card.memory,
  };
  const precision = options.precision ?? choosePrecision(recipe.precision, device);
  const groups = await groupsOf(recipe, rank, ranks);
  const { kernels = 'cuda' } = options;
  const model = hollowModel(options.model, { recipe, device, precision, kernels });
  const between = options.between;
  const shape = { recipe, model, device, precision, groups, ranks, batches, updates, between };
  let known: ReadonlyMap<number, Known> | undefined;
  using trace = startGhostTrace();
  try {
    for await (const { store } of shapeSteps(shape)) {
      known ??= knownBlocks(model, store);
      yield { lines: trace.take(), known };
    }
  } finally {
    model.dispose();
  }
}

async function groupsOf(
  { parallel }: Recipe,
  rank: number,
  size: number,
): Promise<RankGroups | null> {
  if (size === 1) return parallel.offload === 'none' ? null : aloneGroups();
  const world = {
    ...{ rank, size, group: await ProcessGroup.fake(rank, size) },
    newGroup: (_: string, members: readonly number[]) =>
      ProcessGroup.fake(members.indexOf(rank), members.length),
  };
  return openRankGroups(world, { ...parallel, stage: parallel.zero });
}

/** Parameters and the optimizer's tensors, by where they lie; what lies together has the name of the largest. */
function knownBlocks(model: LanguageModel, store: ParameterStore): Map<number, Known> {
  const known = new Map<number, Known & { bytes: number }>();
  const know = (tensor: Tensor, category: Category, name: string): void => {
    const block = tracedBlock(tensor);
    const { bytes } = tensor;
    const before = known.get(block);
    if (block === 0 || (before !== undefined && before.bytes >= bytes)) return;
    known.set(block, { category: before?.category ?? category, name, bytes });
  };
  const parameters = model.namedParameters();
  const weightOf = (name: string): Category =>
    parameters.get(name)?.requiresGrad === true ? 'trained weights' : 'frozen weights';
  for (const [name, tensor] of parameters) know(tensor, weightOf(name), name);
  for (const { name, tensor } of store.weights()) {
    const isMaster = tensor.dtype !== parameters.get(name)?.dtype;
    know(tensor, isMaster ? 'masters' : weightOf(name), name);
  }
  for (const { name, tensor } of store.state()) {
    know(tensor, name.endsWith('.master') ? 'masters' : 'optimizer', name);
  }
  return known;
}
