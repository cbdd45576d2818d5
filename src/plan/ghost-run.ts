/**
 * A ghost run: the model, the optimizer and the step program of a real one, on tensors of the meta device, as one rank of any number.
 * Nothing here computes what a run does: it calls the functions that a run calls, and traces what they ask of the device.
 */

import type { Recipe } from '../config/index.js';
import { effectiveBatch } from '../config/index.js';
import {
  drive,
  Llava,
  makeBatch,
  ParameterSources,
  TextModel,
  type Batch,
  type DecoderConfig,
  type LanguageModel,
  type LlavaConfig,
  type Sample,
} from '../models/index.js';
import { ownPrefixes } from '../formats/layouts/tables.js';
import type { StoredTensor } from '../formats/stored.js';
import { inForms } from '../models/load/base-form.js';
import { quantise } from '../models/load/load.js';
import { kernelsFor } from '../nn/index.js';
import { ProcessGroup } from '../parallel/index.js';
import {
  hold,
  noGrad,
  openRange,
  RandomGenerator,
  startGhostTrace,
  tracedBlock,
  type ChosenDevice,
  type Tensor,
  type TraceLine,
} from '../torch/index.js';
import type { RecordShape } from '../train/index.js';
import { basesOf } from '../train/prepare/bases.js';
import { choosePrecision, type ChosenPrecision } from '../train/prepare/precision.js';
import { planRun } from '../train/prepare/run-plan.js';
import { makeUpdateSetup } from '../train/prepare/run-setup.js';
import { shardModel } from '../train/prepare/shard-model.js';
import { prepareTrainable } from '../train/prepare/trainable.js';
import { updateRange } from '../train/profile/ranges.js';
import type { ParameterStore } from '../train/step/parameter-store.js';
import { aloneGroups, openRankGroups, type RankGroups } from '../train/step/rank-groups.js';
import { runUpdate } from '../train/step/update.js';
import type { Category, Known } from './categories.js';
import type { Card } from './devices/cards.js';

export type { RecordShape };

/** What a ghost run needs to know of the model. */
export type ModelConfig =
  | { readonly kind: 'llava'; readonly config: LlavaConfig }
  | { readonly kind: 'text'; readonly config: DecoderConfig };

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
  /** @default what the recipe asks for */
  readonly precision?: ChosenPrecision;
  /** Whose kernels run. @default `cuda` */
  readonly kernels?: 'cpu' | 'cuda';
}

export interface Ghost {
  readonly lines: readonly TraceLine[];
  /** What lasting tensors are, by block. */
  readonly known: ReadonlyMap<number, Known>;
}

/** Runs so many updates, and gives what they asked of the device. */
export async function ghostRun(options: GhostOptions): Promise<Ghost> {
  const { recipe, card, model: described, rank = 0, ranks = 1, batches, updates = 2 } = options;
  const { kernels = 'cuda' } = options;
  const device: ChosenDevice = {
    ...{ device: 'meta', name: card.name, capability: card.computeCapability },
    totalBytes: card.memory,
  };
  const precision = options.precision ?? choosePrecision(recipe.precision, device);
  const groups = await groupsOf(recipe, rank, ranks);
  const model = modelOf(described, { card, precision, kernels });
  holdInForms(model, recipe);
  const owned: { dispose(): void }[] = [model];
  using trace = startGhostTrace();
  try {
    const dtype = precision.compute;
    const generator = RandomGenerator.create(recipe.seed, 'meta');
    owned.push(generator);
    const sources =
      groups !== null && recipe.parallel.zero === 3 ? new ParameterSources('the plan') : null;
    const chosen = prepareTrainable(model, {
      ...{ ...recipe, dtype, generator, device: 'meta' },
      sources: sources && { from: sources, seed: recipe.seed },
    });
    const { sharding, trainable } = await shardModel(model, chosen, {
      ...{ groups, precision, sources, parallel: recipe.parallel },
      device: 'meta',
    });
    const batching = effectiveBatch(recipe, ranks);
    const plan = planRun(recipe, batching, { recordsPerEpoch: batching.records * updates });
    const parts = { recipe, plan, batching, device, precision, model, trainable, sharding };
    const setup = makeUpdateSetup({
      ...parts,
      batching: { ...batching, accumulate: batches.length },
    });
    owned.push(setup.store);
    const known = knownBlocks(model, setup.store);
    const supervised = sum(batches.flat().map((each) => each.supervised)) * ranks;
    const pictures = batches.flat().some(({ images }) => images > 0);
    for (let update = 0; update < updates; update++) {
      using _ = updateRange(update);
      using placed = batchesOf(model, batches);
      const facts = { supervised, pictures };
      const { numbers } = await drive(runUpdate(setup, update, placed.value, facts));
      numbers.dispose();
    }
    setup.lossScale?.dispose();
    return { lines: trace.take(), known };
  } finally {
    for (const each of owned.reverse()) each.dispose();
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

function modelOf(
  { kind, config }: ModelConfig,
  {
    card: { computeCapability },
    precision: { compute: dtype },
    kernels,
  }: { card: Card; precision: ChosenPrecision; kernels: 'cpu' | 'cuda' },
): LanguageModel {
  const device = kernels === 'cuda' ? 'cuda:0' : 'cpu';
  const build = { dtype, kernels: kernelsFor({ device, dtype, computeCapability }) };
  if (kind === 'text') return new TextModel(config, build);
  const model = new Llava(config, build);
  model.normaliseBy(new Float32Array(768));
  return model;
}

/** Frozen weights in the forms that the recipe asks for, as loading would find them. */
function holdInForms(model: LanguageModel, { train }: Recipe): void {
  const prefixes = ownPrefixes(model.input.image === null);
  const stored = new Map<string, StoredTensor>();
  for (const [name, { shape }] of model.namedParameters()) {
    stored.set(name, { name, shape, dtype: 'BF16', file: '', offset: 0, bytes: 0 });
  }
  quantise(model, inForms(stored, new Set(stored.values()), basesOf(train), prefixes), 'meta');
}

function batchesOf(model: LanguageModel, shapes: GhostOptions['batches']) {
  using _ = openRange('batch');
  return hold((): Batch[] =>
    noGrad(() =>
      shapes.map((records) =>
        makeBatch(
          records.map((record) => sampleOf(record, model)),
          model.input,
          { device: 'meta' },
        ),
      ),
    ),
  );
}

/** Pictures come first; the last tokens are what is learned. */
function sampleOf({ tokens, supervised, images }: RecordShape, { input }: LanguageModel): Sample {
  const pictures = images * (input.image?.tokens ?? 0);
  const inputIds = new Int32Array(tokens);
  inputIds.fill(input.image?.tokenId ?? 0, 0, pictures);
  const labels = new Int32Array(tokens).fill(-100);
  labels.fill(0, tokens - supervised);
  const { size = 0 } = input.image ?? {};
  const picture = new Uint8Array(3 * size * size);
  return { inputIds, labels, images: Array<Uint8Array>(images).fill(picture) };
}

/** Parameters and the optimizer's tensors, by where they lie. */
function knownBlocks(model: LanguageModel, store: ParameterStore): Map<number, Known> {
  const known = new Map<number, Known>();
  const know = (tensor: Tensor, category: Category, name: string): void => {
    const block = tracedBlock(tensor);
    if (block !== 0 && !known.has(block)) known.set(block, { category, name });
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

function sum(numbers: readonly number[]): number {
  return numbers.reduce((a, b) => a + b, 0);
}
