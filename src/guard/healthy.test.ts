/** Runs that are well, however odd they look: no diagnosis, no recovery. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import type { Llava } from '../models/index.js';
import { noGrad, type Tensor } from '../torch/index.js';
import { Guarded, tinyRecord, type GuardedOptions } from './testing.js';

const UPDATES = 48;
const schedule = (warmupUpdates: number) =>
  ({ updates: UPDATES, warmupUpdates, decay: 'constant' }) as const;
const many = (pictures: (i: number) => number, words: (i: number) => number, count = 48) =>
  Array.from({ length: count }, (_, i) => tinyRecord(i, pictures(i), words(i)));

/** Long groups of text alone, which is far easier, between groups with pictures. */
const groups = many(
  (i) => (i % 48 < 24 ? 2 : 0),
  () => 8,
);

const RUNS: readonly [string, GuardedOptions][] = [
  ['groups of pure text', { records: groups }],
  [
    'switches of modality',
    {
      records: many(
        (i) => (i % 2 === 0 ? 1 : 0),
        () => 8,
      ),
    },
  ],
  [
    'text alone',
    {
      records: many(
        () => 0,
        () => 9,
      ),
    },
  ],
  [
    'one record over and over',
    {
      records: many(
        () => 1,
        () => 8,
        1,
      ),
    },
  ],
  [
    'three records',
    {
      records: many(
        (i) => i,
        () => 8,
        3,
      ),
    },
  ],
  [
    'lengths from 4 to 60',
    {
      records: many(
        () => 1,
        (i) => 4 + ((i * 17) % 57),
      ),
    },
  ],
  ['a long warm-up', { recipe: { schedule: schedule(40) } }],
  ['no warm-up', { recipe: { schedule: schedule(0) } }],
  ['a cosine to 0', { recipe: { schedule: { updates: UPDATES } } }],
  ['batch 1', { recipe: { accumulate: 1 } }],
  [
    'batch 1 without clipping',
    { recipe: { accumulate: 1, optimizer: { learningRate: 3e-3, clipNorm: null } } },
  ],
  ['adaptive clipping', { recipe: { optimizer: { learningRate: 3e-3, clipNorm: 'adaptive' } } }],
  ['a low learning rate', { recipe: { optimizer: { learningRate: 1e-6 } } }],
  ['a high learning rate that holds', { recipe: { optimizer: { learningRate: 1e-2 } } }],
  [
    'a group that is to stay as it is',
    {
      recipe: {
        optimizer: {
          learningRate: 3e-3,
          groups: [{ parameters: '*embed_tokens*', learningRate: 0 }],
        },
        schedule: schedule(0),
      },
    },
  ],
  ['moments in bf16', { recipe: { precision: { states: 'bf16' } } }],
  [
    'LoRA',
    { recipe: { train: { vision: 'frozen', projector: 'full', decoder: { lora: { rank: 2 } } } } },
  ],
  [
    'DoRA with dropout',
    {
      recipe: {
        train: {
          vision: 'frozen',
          projector: 'frozen',
          decoder: { lora: { rank: 2, dropout: 0.3, dora: true } },
        },
      },
    },
  ],
  [
    'the projector alone',
    { recipe: { train: { vision: 'frozen', projector: 'full', decoder: 'frozen' } } },
  ],
  [
    'update in backward',
    {
      recipe: {
        accumulate: 1,
        optimizer: { learningRate: 3e-3, clipNorm: null, updateInBackward: true },
      },
    },
  ],
  ['tied embeddings', { tied: true }],
  [
    'fp16 whose scale overflows now and then',
    {
      recipe: {
        precision: { compute: 'fp16', lossScale: { initial: 2 ** 24, window: 4, hysteresis: 1 } },
      },
      precision: { compute: 'float16', scaled: true },
      dtype: 'float16',
    },
  ],
  ['bf16', { precision: { compute: 'bfloat16' }, dtype: 'bfloat16' }],
];

const LORA = {
  train: { vision: 'frozen', projector: 'frozen', decoder: { lora: { rank: 2 } } },
} as const;

/** What an adapter has learnt, by the names of its parameters. */
async function trainedAdapter(): Promise<Map<string, Tensor>> {
  const folder = mkdtempSync(join(tmpdir(), 'patina-healthy-'));
  const first = await Guarded.make({ recipe: { schedule: schedule(4), ...LORA } });
  await first.run(folder);
  const learnt = [...first.model.namedParameters()].filter(([name]) => name.includes('lora_'));
  const kept = new Map(learnt.map(([name, each]) => [name, noGrad(() => each.clone()).keep()]));
  first.dispose();
  rmSync(folder, { recursive: true });
  return kept;
}

test('LoRA from a trained adapter', async () => {
  const adapter = await trainedAdapter();
  const folder = mkdtempSync(join(tmpdir(), 'patina-healthy-'));
  const breaks = (model: Llava): void => {
    const parameters = model.namedParameters();
    for (const [name, learnt] of adapter) {
      expect(learnt.abs().amax([]).item()).toBeGreaterThan(0);
      noGrad(() => parameters.get(name)!.copy_(learnt));
    }
  };
  const guarded = await Guarded.make({ breaks, recipe: { schedule: schedule(4), ...LORA } });
  try {
    expect(adapter.size).toBeGreaterThan(0);
    await guarded.run(folder);
    expect([guarded.error, guarded.diagnoses, guarded.recoveries]).toEqual([null, [], []]);
  } finally {
    guarded.dispose();
    for (const each of adapter.values()) each.dispose();
    rmSync(folder, { recursive: true });
  }
});

test.each(RUNS)('%s', async (_, { recipe, ...options }) => {
  const folder = mkdtempSync(join(tmpdir(), 'patina-healthy-'));
  const guarded = await Guarded.make({ ...options, recipe: { schedule: schedule(4), ...recipe } });
  try {
    await guarded.run(folder);
    expect([guarded.error, guarded.diagnoses, guarded.recoveries]).toEqual([null, [], []]);
  } finally {
    guarded.dispose();
    rmSync(folder, { recursive: true });
  }
});
