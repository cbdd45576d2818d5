/** For tests of the guard: a trainer of a tiny LLaVA over records of its own, with hooks to break it. */

import { checkRecipe, effectiveBatch, type RecipeInput } from '../config/index.js';
import { microBatchOf, sumCounts, type LoadedSample } from '../data/index.js';
import type { Llava } from '../models/index.js';
import type { World } from '../parallel/index.js';
import { chooseDevice, RandomGenerator } from '../torch/index.js';
import {
  choosePrecision,
  planRun,
  prepareTrainable,
  TrainedWeights,
  Trainer,
  type ChosenPrecision,
  type DiagnosisEvent,
  type RecoveryEvent,
  type TrainEvent,
  type TrainingData,
} from '../train/index.js';
import { shardModel } from '../train/prepare/shard-model.js';
import { Ranks } from '../train/run/ranks.js';
import { aloneGroups, openRankGroups } from '../train/step/rank-groups.js';
import { tinyLlava, tinySample, type TinyOptions } from '../train/step/testing.js';
import { RunGuard } from './run-guard.js';
import { goAstray, race, type Race } from './testing-races.js';

/** A record of the tiny model. */
export function tinyRecord(i: number, pictures = i % 3, words = 6 + (i % 4)): LoadedSample {
  const sample = tinySample(pictures, words, i);
  const labels = Int32Array.from(sample.labels as number[]);
  return {
    inputIds: Int32Array.from(sample.inputIds as number[]),
    labels,
    images: sample.images as unknown as Uint8Array[],
    place: { file: 'tiny.jsonl', record: i + 1, line: i + 1 },
    id: `r${i}`,
    supervised: labels.filter((id) => id >= 0).length,
    imageTokens: 4 * pictures,
    truncated: 0,
  };
}

/** A record whose picture is too bright for any type. */
export function spoilt(i: number): LoadedSample {
  const pixels = new Float32Array(3 * 8 * 8).fill(3e38);
  return { ...tinyRecord(i, 1), images: [pixels] as unknown as Uint8Array[] };
}

/** Records in turn, without end, dealt to ranks one micro-batch after another. */
export function recordsInTurn(records: readonly LoadedSample[]): TrainingData {
  const order = { files: 'tiny', options: '' };
  return {
    recordsPerEpoch: records.length,
    validationRecords: 0,
    async *updates({ from, count = Infinity, rank = 0, worldSize = 1, ...batching }) {
      const batchSize = batching.batchTokens === undefined ? batching.batchSize : 1;
      const accumulate = batching.batchTokens === undefined ? (batching.accumulate ?? 1) : 1;
      let at = (from as { position: number } | undefined)?.position ?? 0;
      for (let k = 0; k < count; k++) {
        await Promise.resolve();
        let position = 0;
        const next = (): LoadedSample => {
          return { ...records[at++ % records.length]!, position: position++ };
        };
        const take = (): LoadedSample[] => Array.from({ length: batchSize }, next);
        const steps = Array.from({ length: accumulate }, () =>
          Array.from({ length: worldSize }, () => microBatchOf(take())),
        );
        const shares = Array.from({ length: worldSize }, (_, r) => {
          const counts = sumCounts(steps.map((step) => step[r]!.counts));
          return { counts, steps: accumulate, rejected: [], odd: [], waitedMs: 0 };
        });
        yield {
          microBatches: steps.map((step) => step[rank]!),
          counts: sumCounts(shares.map(({ counts }) => counts)),
          cursor: { epoch: 0, position: at, order },
          ...{ epoch: 0, rejected: [], odd: [], shares, waitedMs: 0 },
        };
      }
    },
    async *validation() {},
  };
}

const BASE: RecipeInput = {
  name: 'tiny',
  model: { from: 'nowhere' },
  data: { sources: ['nowhere'] },
  train: { vision: 'full', projector: 'full', decoder: 'full' },
  optimizer: { learningRate: 3e-3 },
  schedule: { updates: 8, warmupUpdates: 1, decay: 'constant' },
  batchSize: 1,
  accumulate: 2,
  device: 'cpu',
};

export interface GuardedOptions extends TinyOptions {
  readonly recipe?: Partial<RecipeInput>;
  readonly records?: readonly LoadedSample[];
  readonly precision?: Partial<ChosenPrecision>;
  /** Changes the model before it trains, mostly to break it. */
  readonly breaks?: (model: Llava) => void;
  /** Several ranks, of which this is one. @default alone */
  readonly world?: World | undefined;
  /** Stops after so many updates. */
  readonly until?: number;
}

/** A run with its events, and the model that it leaves. */
export class Guarded {
  readonly events: TrainEvent[] = [];
  error: unknown = null;
  /** Where its checkpoints are. */
  folder = '';

  private constructor(
    readonly model: Llava,
    readonly trainer: Trainer,
    readonly until: number | undefined,
  ) {}

  static async make({
    recipe: more = {},
    records,
    precision: changed,
    breaks,
    until,
    world,
    ...tiny
  }: GuardedOptions = {}): Promise<Guarded> {
    const recipe = checkRecipe({ ...BASE, ...more });
    const model = tinyLlava(tiny);
    const device = chooseDevice('cpu');
    const precision = { ...choosePrecision(recipe.precision, device), ...changed };
    const generator = RandomGenerator.create(5);
    const { train, optimizer } = recipe;
    const dtype = precision.compute;
    const chosen = prepareTrainable(model, {
      train,
      optimizer,
      dtype,
      device: 'cpu',
      generator,
    });
    generator.dispose();
    breaks?.(model);
    const { parallel } = recipe;
    const ranks = new Ranks(world ?? null);
    const alone = parallel.offload === 'none' ? null : await aloneGroups();
    const groups =
      world === undefined
        ? alone
        : await openRankGroups(world, { ...parallel, stage: parallel.zero });
    const sharing = { groups, parallel, precision, device: 'cpu' } as const;
    const { sharding, trainable } = await shardModel(model, chosen, sharing);
    const data = recordsInTurn(records ?? Array.from({ length: 12 }, (_, i) => tinyRecord(i)));
    const batching = effectiveBatch(recipe, ranks.size);
    const trainer = new Trainer({
      ...{ recipe, batching, plan: planRun(recipe, batching, data), device, precision },
      ...{ model, trainable, sharding, weights: new TrainedWeights({ model, trainable }), data },
      ...{ ranks, guard: new RunGuard(recipe) },
    });
    return new Guarded(model, trainer, until);
  }

  /** Trains until the end, or until an error, which is kept. */
  async run(folder: string, onEvent: (event: TrainEvent) => void = () => undefined): Promise<this> {
    this.folder = folder;
    const place = { path: folder, checkpoints: folder, setState: () => Promise.resolve() };
    try {
      for await (const event of this.trainer.run(place, { maxUpdates: this.until })) {
        this.events.push(event);
        onEvent(event);
      }
    } catch (error) {
      this.error = error;
    }
    return this;
  }

  get diagnoses(): DiagnosisEvent[] {
    return this.events.filter((event) => event.type === 'diagnosis');
  }

  get recoveries(): RecoveryEvent[] {
    return this.events
      .filter((event) => event.type === 'recovery')
      .filter((event) => event.action !== 'halve');
  }

  get causes(): string[] {
    return this.diagnoses.map(({ cause }) => cause);
  }

  /** All weights, to the bit. */
  get bits(): string[] {
    return this.model.parameters().map((each) => Buffer.from(each.toBytes()).toString('base64'));
  }

  dispose(): void {
    this.trainer.dispose();
    this.model.dispose();
  }
}

/** What a rank says of its run: plain. */
export interface RankSaid {
  readonly causes: readonly string[];
  readonly ranks: readonly (number | null)[];
  readonly actions: readonly string[];
  readonly lines: readonly number[];
  readonly losses: readonly (number | null)[];
  readonly error: string | null;
}

export interface OnRankOptions {
  readonly recipe: Partial<RecipeInput>;
  readonly folder: string;
  /** On the last rank; no record is spoilt then. */
  readonly race?: Race;
  /** Label of calls at which the last rank goes astray; no record is spoilt then. */
  readonly astray?: string;
}

/** For a process that is one of several ranks: trains over them, one record spoilt unless it is in quarantine. */
export async function trainOnRank(
  world: World,
  { recipe, folder, race: racing, astray }: OnRankOptions,
): Promise<RankSaid> {
  const records = Array.from({ length: 16 }, (_, i) =>
    i === 5 && racing === undefined && astray === undefined ? spoilt(i) : tinyRecord(i),
  );
  const isLast = world.rank === world.size - 1;
  if (isLast && racing !== undefined) race(racing);
  if (isLast && astray !== undefined) goAstray(astray);
  const guarded = await Guarded.make({ recipe, records, world });
  await guarded.run(folder);
  const { causes, diagnoses, recoveries, events, error } = guarded;
  const said = {
    causes,
    ranks: diagnoses.map(({ rank }) => rank),
    actions: recoveries.map(({ action }) => action),
    lines: recoveries.flatMap(({ records: named }) => named.map(({ line }) => line)),
    losses: events.flatMap((event) =>
      event.type === 'update' && !event.skipped ? [event.loss] : [],
    ),
    error: error instanceof Error ? error.message : null,
  };
  guarded.dispose();
  return said;
}
