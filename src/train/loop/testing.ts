/** For tests of the loop: a trainer of a tiny LLaVA on a dozen records that lie in memory. */

import { checkRecipe, effectiveBatch, type RecipeInput } from '../../config/index.js';
import {
  sumCounts,
  type Batching,
  type DataCounts,
  type LoadedSample,
  type UpdateData,
} from '../../data/index.js';
import type { Llava, Sample } from '../../models/index.js';
import type { World } from '../../parallel/index.js';
import { chooseDevice, RandomGenerator } from '../../torch/index.js';
import { TrainedWeights } from '../checkpoint/trained-weights.js';
import { choosePrecision, type ChosenPrecision } from '../prepare/precision.js';
import { planRun } from '../prepare/run-plan.js';
import { shardModel } from '../prepare/shard-model.js';
import { prepareTrainable } from '../prepare/trainable.js';
import { Ranks } from '../run/ranks.js';
import { openRankGroups } from '../step/rank-groups.js';
import { tinyLlava, tinySample } from '../step/testing.js';
import { Trainer, type TrainerParts, type TrainingData } from './trainer.js';

const RECORDS = 12;

function microBatch(samples: readonly Sample[]) {
  const sum = (f: (s: Sample) => number): number => samples.reduce((n, s) => n + f(s), 0);
  const counts: DataCounts = {
    sequences: samples.length,
    tokens: sum(({ inputIds }) => inputIds.length),
    imageTokens: sum(({ images }) => 4 * images.length),
    images: sum(({ images }) => images.length),
    supervised: sum(({ labels }) => Array.from(labels).filter((id) => id >= 0).length),
    truncated: 0,
  };
  return { samples: samples as LoadedSample[], counts };
}

/** Data of a dozen samples of so many words or a few more, in order, epoch after epoch, dealt to ranks; the cursor is the number of records seen. */
export function tinyData(
  onUpdate: (update: number) => void = () => undefined,
  words = 6,
): TrainingData {
  const sample = (i: number): Sample => tinySample(i % 3, words + (i % 4), i);
  async function* updates(
    from: number,
    step: number,
    batchSize: number,
    count: number,
    share: Share,
  ) {
    const { rank = 0, worldSize = 1 } = share;
    for (let k = 0; k < count; k++) {
      await Promise.resolve();
      const start = from + k * step;
      onUpdate(start / step);
      const samples = Array.from({ length: step }, (_, position) => ({
        ...sample((start + position) % RECORDS),
        position,
      }));
      const dealt = Array.from({ length: worldSize }, (_, of) =>
        Array.from({ length: Math.ceil(step / batchSize / worldSize) }, (__, i) => {
          const at = (i * worldSize + of) * batchSize;
          return microBatch(samples.slice(at, at + batchSize));
        }),
      );
      const parts = dealt[rank]!;
      const { counts } = microBatch(samples);
      const order = { files: 'tiny', options: '' };
      const cursor = { epoch: 0, position: start + step, order };
      const epoch = Math.floor(start / RECORDS);
      const update: UpdateData = {
        epoch,
        microBatches: parts,
        counts,
        rejected: [],
        odd: [],
        shares: dealt.map((each) => ({
          counts: sumCounts(each.map((part) => part.counts)),
          ...{ steps: parts.length, rejected: [], odd: [], waitedMs: 0 },
        })),
        cursor,
        waitedMs: 0,
      };
      yield update;
    }
  }
  return {
    recordsPerEpoch: RECORDS,
    validationRecords: 2,
    updates: ({ from, count = Infinity, ...batching }) => {
      const { batchSize, accumulate = 1, worldSize = 1 } = byRecords(batching);
      const start = (from as { position: number } | undefined)?.position ?? 0;
      return updates(start, batchSize * accumulate * worldSize, batchSize, count, batching);
    },
    validation: (batching) => updates(3, 3, byRecords(batching).batchSize, 1, batching),
  };
}

interface Share {
  readonly rank?: number | undefined;
  readonly worldSize?: number | undefined;
}

function byRecords(batching: Batching) {
  if (batching.batchTokens !== undefined) throw new Error('These data are cut by records.');
  return batching;
}

const BASE: RecipeInput = {
  name: 'tiny',
  model: { from: 'nowhere' },
  data: { sources: ['nowhere'] },
  train: { vision: 'full', projector: 'full', decoder: 'full' },
  optimizer: { learningRate: 3e-3 },
  schedule: { updates: 6, warmupUpdates: 1 },
  batchSize: 1,
  accumulate: 2,
  device: 'cpu',
};
export interface TinyTrainer {
  readonly trainer: Trainer;
  readonly model: Llava;
  dispose(): void;
}

export function makeTinyTrainer(
  more: Partial<RecipeInput> = {},
  parts: Partial<TrainerParts> = {},
): TinyTrainer {
  return trainerOf(tinyParts(more, new Ranks()), parts);
}

/** One rank of several, which share the model out as the recipe says. */
export async function makeTinyRank(
  world: World,
  more: Partial<RecipeInput> = {},
  parts: Partial<TrainerParts> = {},
  { scaled = false }: Partial<Pick<ChosenPrecision, 'scaled'>> = {},
): Promise<TinyTrainer> {
  const made = tinyParts(more, new Ranks(world));
  const { model, recipe } = made;
  const precision = { ...made.precision, scaled };
  const { parallel } = recipe;
  const groups = await openRankGroups(world, { ...parallel, stage: parallel.zero });
  const sharing = { groups, parallel, precision, device: 'cpu' } as const;
  const shared = await shardModel(model, made.trainable, sharing);
  return trainerOf({ ...made, ...shared, precision }, parts);
}

function tinyParts(more: Partial<RecipeInput>, ranks: Ranks) {
  const recipe = checkRecipe({ ...BASE, ...more });
  const model = tinyLlava();
  const device = chooseDevice(recipe.device);
  const precision = choosePrecision(recipe.precision, device);
  const generator = RandomGenerator.create(5);
  const { train, optimizer } = recipe;
  const trainable = prepareTrainable(model, {
    train,
    optimizer,
    dtype: precision.compute,
    device: 'cpu',
    generator,
  });
  generator.dispose();
  const batching = effectiveBatch(recipe, ranks.size);
  return { recipe, model, device, precision, trainable, batching, ranks };
}

function trainerOf(
  made: ReturnType<typeof tinyParts> & Pick<TrainerParts, 'sharding'>,
  { data = tinyData(), ...parts }: Partial<TrainerParts>,
): TinyTrainer {
  const { recipe, model, trainable, batching } = made;
  const trainer = new Trainer({
    ...made,
    plan: planRun(recipe, batching, data),
    weights: new TrainedWeights({ model, trainable }),
    data,
    answer: ({ text }) => Promise.resolve(`you ask ${text}`),
    ...parts,
  });
  const dispose = (): void => {
    trainer.dispose();
    model.dispose();
  };
  return { trainer, model, dispose };
}
