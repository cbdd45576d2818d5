/** A ghost run is the step program itself: what is planned follows what the program does. */
import { afterEach, expect, test, vi } from 'vitest';
import { checkRecipe, type RecipeInput } from '../config/index.js';
import { readLlavaConfig } from '../models/index.js';
import { TrainedBlock } from '../models/trained-block.js';
import { empty, liveTensors, noGrad, scope, startGhostTrace } from '../torch/index.js';
import { readGpus } from './devices/cards.js';
import { ghostRun, ghostSteps, type GhostOptions } from './ghost-run.js';
import { replay, type Replayed } from './replay.js';
import type { ModelConfig } from './shape-model.js';
import { smallConfig } from './testing.js';

afterEach(() => {
  vi.restoreAllMocks();
});

const { card } = readGpus('A100-40GB');
const LAYERS = 4;
const MODEL: ModelConfig = {
  kind: 'llava',
  config: readLlavaConfig({
    file: 'test',
    json: smallConfig({ layers: LAYERS }),
  }),
};
const TOKENS = 4096;
const BATCH = [{ tokens: TOKENS, supervised: 2000, images: 1 }];
const BOUNDARY = TOKENS * 256 * 2;

interface Choice extends Partial<RecipeInput> {
  ranks?: number;
  batches?: GhostOptions['batches'];
}

async function planned({ ranks = 1, batches = [BATCH], ...more }: Choice = {}): Promise<Replayed> {
  const recipe = checkRecipe({
    ...{ name: 'test', model: { from: 'x' }, data: { sources: ['x'] } },
    train: { decoder: 'full', projector: 'full' },
    optimizer: { learningRate: 1e-4 },
    ...more,
  });
  const { lines, known } = await ghostRun({ recipe, model: MODEL, card, ranks, batches });
  return replay(lines, known, { card });
}

/** After the model was made. */
async function givenUp(): Promise<void> {
  const recipe = checkRecipe({
    ...{ name: 'test', model: { from: 'x' }, data: { sources: ['x'] } },
    optimizer: { learningRate: 1e-4 },
    precision: { compute: 'fp16' },
  });
  const steps = ghostSteps({ recipe, model: MODEL, card, batches: [BATCH] });
  await steps.next();
  await steps.return(undefined);
}

const backwardPeak = ({ timeline }: Replayed): number =>
  timeline.find(({ phase }) => phase === 'backward')!.allocated;

test('what a layer allocates more is in the plan, in the phase in which it does', async () => {
  const before = await planned();
  const original = TrainedBlock.prototype.backward;
  vi.spyOn(TrainedBlock.prototype, 'backward').mockImplementation(function (
    this: TrainedBlock,
    call,
  ) {
    using _ = empty([64 * 2 ** 20], { dtype: 'uint8', device: call.x.device });
    return original.call(this, call);
  });
  const after = await planned();
  const more = backwardPeak(after) - backwardPeak(before);
  expect(Math.abs(more - 64 * 2 ** 20)).toBeLessThan(2 ** 20);
});

test('another level of blocks keeps what it says of itself', async () => {
  const [less, more] = [await planned(), await planned({ memory: { policy: 'attention' } })];
  // The result of attention and the sum after it; the block whose backward runs has given back some of its own.
  expect(more.atPeak['kept activations']).toBeGreaterThan(2 * (LAYERS - 1) * BOUNDARY);
  expect(less.atPeak['kept activations']).toBeLessThan(BOUNDARY);
});

test('nothing is left of it', async () => {
  const both = async (): Promise<number> => {
    await planned();
    await planned({ ranks: 4, parallel: { zero: 3, offload: 'optimizer' } });
    await givenUp();
    return liveTensors();
  };
  const before = await both();
  expect(await both()).toBeLessThanOrEqual(before);
});

test('ranks share out what their stage says', async () => {
  const states = ({ atPeak }: Replayed): number => atPeak.optimizer + atPeak.masters;
  const alone = await planned();
  const [first, third] = [
    await planned({ ranks: 8, parallel: { zero: 1 } }),
    await planned({ ranks: 8, parallel: { zero: 3 } }),
  ];
  expect(states(first) / states(alone)).toBeCloseTo(1 / 8, 1);
  expect(third.atPeak['trained weights']).toBe(0); // its masters are the weights
  // But for what fills buffers up.
  const weights = first.atPeak['trained weights'] / alone.atPeak['trained weights'];
  expect(weights).toBeCloseTo(1, 1);
});

test('an optimizer in host memory is counted there', async () => {
  const offloaded = await planned({ parallel: { offload: 'optimizer' } });
  expect(offloaded.atPeak.optimizer + offloaded.atPeak.masters).toBe(0);
  // fp32: masters, two moments and the gradient; bf16: what is copied back.
  expect(offloaded.host / (await planned()).atPeak.masters).toBeGreaterThan(3.5);
});

test('frozen weights in NF4 take about half a byte', async () => {
  const base = { lora: {}, base: 'nf4', doubleQuantised: true } as const;
  const blocks = LAYERS * (256 * 512 + 256 * 256 + 3 * 256 * 512);
  const [dense, small] = [
    await planned({ train: { decoder: { lora: {} } } }),
    await planned({ train: { decoder: base } }),
  ];
  const saved = dense.atPeak['frozen weights'] - small.atPeak['frozen weights'];
  expect(saved / blocks).toBeCloseTo(2 - 0.516, 1);
});

test('a second micro-batch adds gradients in fp32, and time', async () => {
  const [one, two] = [await planned(), await planned({ batches: [BATCH, BATCH], accumulate: 2 })];
  expect(two.updates.at(-1)!).toBeGreaterThan(1.5 * one.updates.at(-1)!);
  expect(two.perMicroBatch / one.perMicroBatch).toBeCloseTo(1, 0);
});

test('a trace tells what operators are given and what of that they overwrite', () => {
  using trace = startGhostTrace();
  scope(() =>
    noGrad(() => {
      const [x, y] = [empty([8, 4], { device: 'meta' }), empty([4], { device: 'meta' })];
      x.add(y);
      x.add_(y);
      y.copy_(y);
      x.add_(x);
    }),
  );
  const seen = [...trace.take()].flatMap((line) =>
    line.kind === 'begin' && /::(?:add_?|copy_)$/.test(line.name)
      ? [[line.name, line.bytes, line.overwritten]]
      : [],
  );
  expect(seen).toEqual([
    ['aten::add', 144, 0],
    ['aten::add_', 144, 128],
    ['aten::copy_', 16, 16],
    // Given twice, it is read once.
    ['aten::add_', 128, 128],
  ]);
});
