/**
 * Losses of the same updates twice: by decoder blocks whose backward is written by hand over fused operators, and by the composite, the
 * layers of decoder.ts one by one under autograd. Records are the quickstart's, pictures that it draws and what is said of them.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkRecipe } from '../src/config/index.js';
import { openDataset } from '../src/data/index.js';
import { CLIP_MEAN, CLIP_STD, normaliseTable } from '../src/data/image/normalise.js';
import { Random } from '../src/data/sampling/random.js';
import {
  finish,
  Llava,
  type LlavaConfig,
  makeBatch,
  type Sample,
  type Segment,
} from '../src/models/index.js';
import { type BuildOptions, kernelsFor } from '../src/nn/index.js';
import { AdamW, Gate, schedule } from '../src/optim/index.js';
import { prepareQuickstart } from '../src/recipes/quickstart/prepare.js';
import {
  emptyCache,
  hold,
  noGrad,
  RandomGenerator,
  type Device,
  type DType,
} from '../src/torch/index.js';
import { prepareTrainable } from '../src/train/prepare/trainable.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { runUpdate } from '../src/train/step/update.js';

export interface TrajectoryOptions {
  readonly config: LlavaConfig;
  readonly device: Device;
  readonly dtype: DType;
  readonly mode: 'lora' | 'full';
  /** Of the blocks by hand; the composite keeps its graphs. */
  readonly policy: MemoryPolicy;
  readonly learningRate: number;
  /** Of all updates. */
  readonly data: TrajectoryData;
}

/** The micro-batches of each update. */
export type TrajectoryData = readonly (readonly (readonly Sample[])[])[];

/** The quickstart's records for so many updates of two micro-batches, as a model takes them. */
export async function quickstartData(
  config: LlavaConfig,
  { updates, records }: { updates: number; records: number },
): Promise<TrajectoryData> {
  const root = await mkdtemp(join(tmpdir(), 'patina-trajectory-'));
  try {
    const folder = join(root, 'data');
    await prepareQuickstart(folder, { sizes: { train: 400, heldOut: 1, unseen: 1 } });
    const recipe = checkRecipe({
      name: 'trajectory',
      model: { from: 'x' },
      data: {
        sources: [join(folder, 'captions.json'), join(folder, 'questions.json')],
        workers: 0,
      },
      image: { mode: 'crop' },
      optimizer: { learningRate: 1 },
    });
    const model = new Llava(config);
    const { input } = model;
    model.dispose();
    const dataset = await openDataset(recipe, { tokenizer: join(folder, 'tokenizer'), input });
    try {
      const data: Sample[][][] = [];
      const planned = dataset.updates({ batchSize: records, accumulate: 2, count: updates });
      for await (const { microBatches } of planned) {
        data.push(microBatches.map(({ samples }) => [...samples]));
      }
      return data;
    } finally {
      await dataset.close();
    }
  } finally {
    await rm(root, { recursive: true });
  }
}

/** The same records in the same micro-batches, in another order within each: sums are made in another order. */
export function permuted(data: TrajectoryData): TrajectoryData {
  const random = new Random(1, 'order within micro-batches');
  return data.map((update) =>
    update.map((samples) => {
      // Masks of dropout stay with their records.
      const placed = samples.map((each, i) => ({ ...each, position: each.position ?? i }));
      return random.shuffle(placed);
    }),
  );
}

/** No segment of it has a backward by hand. */
class ComposedLlava extends Llava {
  declare readonly segments: readonly Segment[];

  constructor(config: LlavaConfig, options: BuildOptions) {
    super(config, options);
    this.segments = this.segments.map(({ byHand: _none, ...segment }) => segment);
  }
}

/** The loss of each update. Equal seeds: models begin with the same weights. */
export function trajectory(form: 'by hand' | 'composite', options: TrajectoryOptions): number[] {
  const { config, device, dtype, mode, policy, learningRate, data } = options;
  const build = { dtype, kernels: kernelsFor({ device, dtype }) };
  const model = form === 'by hand' ? new Llava(config, build) : new ComposedLlava(config, build);
  model.normaliseBy(normaliseTable(CLIP_MEAN, CLIP_STD));
  using generator = RandomGenerator.create(1, device);
  const { train, optimizer } = checkRecipe({
    name: 'trajectory',
    model: { from: 'x' },
    data: { sources: ['x'] },
    train: {
      decoder: mode === 'full' ? 'full' : { lora: { rank: 16, alpha: 32, dropout: 0.1 } },
      projector: 'full',
    },
    optimizer: { learningRate },
  });
  try {
    const { groups } = prepareTrainable(model, { train, optimizer, dtype, device, generator });
    const randomness = new Randomness(1);
    const parts = { optimizer: new AdamW(groups), gate: new Gate(device), randomness };
    const store = new AccumulatingStore({
      model,
      ...parts,
      clipNorm: optimizer.clipNorm as number | null,
    });
    const setup = {
      ...{ model, device, store, randomness },
      policies: memoryPolicies(model.segments, { policy: form === 'by hand' ? policy : 'keep' }),
      schedule: schedule({ updates: data.length, warmup: Math.ceil(data.length / 20) }),
    };
    try {
      return data.map((update, i) => {
        using batches = hold(() =>
          noGrad(() => update.map((samples) => makeBatch(samples, model.input, { device }))),
        );
        const { numbers, supervised } = finish(runUpdate(setup, i, batches.value));
        return numbers.read().lossSum[0]! / supervised;
      });
    } finally {
      store.dispose();
    }
  } finally {
    model.dispose();
    emptyCache(device);
  }
}

export interface Distance {
  /** Largest of the relative differences. */
  readonly largest: number;
  readonly mean: number;
  /** Of the first update, before any weight has changed. */
  readonly first: number;
}

export function distance(losses: readonly number[], others: readonly number[]): Distance {
  const each = losses.map((loss, i) => Math.abs(loss - others[i]!) / Math.abs(others[i]!));
  return {
    largest: Math.max(...each),
    mean: each.reduce((a, b) => a + b) / each.length,
    first: each[0]!,
  };
}
