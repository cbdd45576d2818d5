/** Phases between updates: on meta they take what they take on the CPU, and the plan says which of all phases takes most. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { checkRecipe, type RecipeInput } from '../config/index.js';
import { generate } from '../generate/index.js';
import { readLlavaConfig } from '../models/index.js';
import { liveTensors, memoryStats, resetPeak, startGhostTrace } from '../torch/index.js';
import type { BetweenUpdates, RecordShape } from '../train/index.js';
import { choosePrecision } from '../train/prepare/precision.js';
import { aloneGroups } from '../train/step/rank-groups.js';
import { readGpus } from './devices/cards.js';
import { ghostRun } from './ghost-run.js';
import { replay, type Replayed } from './replay.js';
import { decisiveTokens } from './pauses.js';
import { hollowModel, type ModelConfig } from './shape-model.js';
import { shapeSteps } from './shape-run.js';
import { TensorCount } from './tensor-count.js';
import { smallConfig } from './testing.js';

const { card } = readGpus('A100-40GB');
const HIDDEN = 128;
const LAYERS = 3;
const MODEL: ModelConfig = {
  kind: 'llava',
  config: readLlavaConfig({
    file: 'test',
    json: smallConfig({ hidden: HIDDEN, layers: LAYERS, positions: 4096 }),
  }),
};
const RECORDS: readonly RecordShape[] = [
  { tokens: 200, supervised: 90, images: 1 },
  { tokens: 100, supervised: 50, images: 0 },
];

const recipeOf = (more: Partial<RecipeInput> = {}) =>
  checkRecipe({
    ...{ name: 'test', model: { from: 'x' }, data: { sources: ['x'] }, device: 'cpu' },
    train: { decoder: 'full', projector: 'full' },
    optimizer: { learningRate: 1e-4 },
    ...more,
  });

type Peak = readonly [what: string, peak: number, now: number];

/** Bytes of each step at most, and when it is over. */
async function peaks(
  where: 'cpu' | 'meta',
  more: Partial<RecipeInput>,
  between: BetweenUpdates,
): Promise<Peak[]> {
  const recipe = recipeOf(more);
  const cpu = { device: 'cpu', name: 'CPU', capability: null, totalBytes: 2 ** 34 } as const;
  const precision = choosePrecision(recipe.precision, cpu);
  const device = { ...cpu, device: where };
  const model = hollowModel(MODEL, { recipe, device, precision, kernels: 'cpu' });
  const groups = recipe.parallel.offload === 'none' ? null : await aloneGroups();
  const run = { recipe, model, device, precision, groups, ranks: 1, batches: [RECORDS] };
  const found: Peak[] = [];
  const before = memoryStats('cpu').allocated;
  const count = new TensorCount();
  using trace = where === 'meta' ? startGhostTrace() : null;
  resetPeak('cpu');
  for await (const { what } of shapeSteps({ ...run, updates: 2, between })) {
    const { allocated, peakAllocated } = memoryStats('cpu');
    if (trace === null) found.push([what, peakAllocated - before, allocated - before]);
    else {
      count.take(trace.take());
      found.push([what, count.peak, count.now]);
    }
    resetPeak('cpu');
    count.resetPeak();
  }
  model.dispose();
  return found;
}

/** What records of a few numbers take. */
const SMALL_TENSORS = 2048;

describe('on meta, phases take what they take on the CPU', () => {
  const recipes: readonly Partial<RecipeInput>[] = [
    {},
    { checkpoints: { background: false } },
    { train: { decoder: { lora: {} } }, memory: { policy: 'keep' } },
    { train: { decoder: { lora: {}, base: 'nf4' } } },
    { parallel: { offload: 'optimizer' } },
    { guard: { onBadUpdate: 'roll-back', snapshotEvery: 1 } },
    { optimizer: { learningRate: 1e-4, updateInBackward: true, clipNorm: null } },
    { precision: { compute: 'bf16' } },
  ];
  // So long that the decoder decides: the CPU unfolds pictures before it embeds them, which a card does not.
  const record = fc.record({
    tokens: fc.integer({ min: 200, max: 500 }),
    images: fc.integer({ min: 0, max: 1 }),
  });
  const shapes = fc.record({
    validation: fc.array(record, { minLength: 1, maxLength: 2 }),
    probe: record,
    newTokens: fc.integer({ min: 1, max: 100 }),
    isBeneath: fc.boolean(),
  });

  test.each(recipes)('%j', async (more) => {
    await fc.assert(
      fc.asyncProperty(shapes, async ({ validation, probe, newTokens, isBeneath }) => {
        const between: BetweenUpdates = {
          validation: validation.map((each) => ({ ...each, supervised: each.tokens - 12 })),
          probes: [{ ...probe, newTokens }],
          isBeneath: () => isBeneath,
          copiesLast: false,
        };
        const [real, ghost] = [
          await peaks('cpu', more, between),
          await peaks('meta', more, between),
        ];
        const steps = ['load', 'update', 'validation', 'probes', 'save', 'update'];
        expect(ghost.map(([what]) => what)).toEqual(steps);
        for (const [i, [what, peak, now]] of real.entries()) {
          const [, ghostPeak, ghostNow] = ghost[i]!;
          expect(Math.abs(now - ghostNow), `after ${what}`).toBeLessThan(SMALL_TENSORS);
          // Some operators of the CPU take memory that those of a card do without: the loss and attention.
          if (what === 'update') expect(peak).toBeGreaterThan(ghostPeak - SMALL_TENSORS);
          else expect(Math.abs(peak - ghostPeak), what).toBeLessThan(SMALL_TENSORS);
        }
      }),
      { numRuns: 5 },
    );
  });
});

async function planned(
  between: Partial<BetweenUpdates>,
  more: Partial<RecipeInput> = {},
  ranks = 1,
): Promise<Replayed> {
  const { lines, known } = await ghostRun({
    ...{ recipe: recipeOf(more), model: MODEL, card, ranks, batches: [RECORDS] },
    between: { isBeneath: () => true, ...between },
  });
  return replay(lines, known, { card });
}

const row = ({ timeline }: Replayed, phase: string) =>
  timeline.find((each) => each.phase === phase)!;

const long = [{ tokens: 4000, supervised: 3900, images: 1 }];
const question = { tokens: 3000, images: 1, newTokens: 300 };

test.each([
  ['validation', { validation: long }],
  ['probes', { probes: [question] }],
] as const)('the peak is that of %s where that takes most', async (phase, between) => {
  const [with_, without] = [await planned(between), await planned({})];
  expect(with_.phase).toBe(phase);
  expect(with_.allocated).toBe(row(with_, phase).allocated);
  expect(without.phase).not.toBe(phase);
  expect(with_.allocated).toBeGreaterThan(1.5 * without.allocated);
  expect(with_.updates.at(-1)! / without.updates.at(-1)!).toBeCloseTo(1, 5);
  expect(row(without, phase)).toBeUndefined();
});

test('keys and values of an answer are in the plan of probes, in whole blocks of places', async () => {
  const probes = [{ tokens: 100, images: 0, newTokens: 2000 }];
  const { atPeak, largest, phase } = await planned({ probes }, { train: { projector: 'full' } });
  expect(phase).toBe('probes');
  // Two a layer, of two heads of 32, in bf16; while it grows the last one is there twice.
  const one = 2 * 2 * 32 * 2304;
  expect(largest).toContainEqual(
    expect.objectContaining({ name: 'keys and values, probes', category: 'kept activations' }),
  );
  expect(atPeak['kept activations']).toBeGreaterThan((2 * LAYERS - 1) * one * (2048 / 2304));
  expect(atPeak['kept activations']).toBeLessThanOrEqual((2 * LAYERS + 1) * one);
});

test('tokens that decide take what all of an answer take', async () => {
  const recipe = recipeOf();
  const device = { device: 'meta', name: 'none', capability: null, totalBytes: 0 } as const;
  const precision = choosePrecision(recipe.precision, device);
  const model = hollowModel(MODEL, { recipe, device, precision });
  const peakOf = async (tokens: number, maxNewTokens: number): Promise<number> => {
    using trace = startGhostTrace();
    const answer = generate(model, [{ inputIds: new Int32Array(tokens) }], { maxNewTokens });
    while ((await answer.next()).done !== true);
    const count = new TensorCount();
    count.take(trace.take());
    return count.peak;
  };
  const prompt = fc.integer({ min: 1, max: 600 });
  const asked = fc.integer({ min: 1, max: 600 });
  await fc.assert(
    fc.asyncProperty(prompt, asked, async (tokens, newTokens) => {
      const decisive = decisiveTokens(tokens, newTokens);
      expect(decisive).toBeLessThanOrEqual(newTokens);
      const [all, some] = [await peakOf(tokens, newTokens), await peakOf(tokens, decisive)];
      expect(Math.abs(all - some)).toBeLessThan(SMALL_TENSORS);
    }),
    {
      numRuns: 6,
      examples: [
        [255, 2],
        [255, 3],
        [256, 2],
        [100, 157],
        [100, 158],
        [1, 1],
      ],
    },
  );
  model.dispose();
}, 300_000);

describe('checkpoints and snapshots take host memory', () => {
  const elements = (name: 'trained weights' | 'masters', { atPeak }: Replayed): number =>
    atPeak[name] / (name === 'masters' ? 4 : 2);

  test('copies of weights and states, until the next update is over', async () => {
    const sync = await planned({}, { checkpoints: { background: false } });
    const copied = await planned({});
    const trained = elements('masters', sync);
    // Weights, and in fp32 masters and two moments.
    const bytes = row(copied, 'save').host - row(sync, 'save').host;
    expect(bytes / (trained * (2 + 3 * 4))).toBeCloseTo(1, 1);
    expect(row(copied, 'backward').host).toBe(bytes);
    expect(copied.allocated).toBe(sync.allocated);
  });

  test('ranks copy what each of them writes', async () => {
    const alone = await planned({});
    const shared = await planned({}, { parallel: { zero: 3 } }, 4);
    expect(row(alone, 'save').host / row(shared, 'save').host).toBeCloseTo(4, 0);
  });

  test('a snapshot comes on top, where there is to be one', async () => {
    const guard = { onBadUpdate: 'roll-back', snapshotEvery: 10 } as const;
    const [none, some] = [await planned({}), await planned({}, { guard })];
    expect(row(some, 'save').host / row(none, 'save').host).toBeCloseTo(2, 1);
    expect(row(some, 'update').host).toBeGreaterThan(row(none, 'first forward').host);
  });
});

test('nothing is left of it', async () => {
  const all = async (): Promise<number> => {
    const between = { validation: long, probes: [question] };
    await planned(between, { guard: { onBadUpdate: 'roll-back', snapshotEvery: 1 } });
    await planned(between, { parallel: { zero: 3 } }, 2);
    return liveTensors();
  };
  const before = await all();
  expect(await all()).toBeLessThanOrEqual(before);
});
