/** What a run is told that its memory should be is what the planner finds for its own model, device and records. */
import { expect, test } from 'vitest';
import { checkRecipe } from '../config/index.js';
import type { Llava } from '../models/index.js';
import type { ChosenDevice } from '../torch/index.js';
import { choosePrecision, type PlannedFor } from '../train/index.js';
import { tinyLlava } from '../train/step/testing.js';
import { readGpus } from './devices/cards.js';
import { ghostRun } from './ghost-run.js';
import { predict } from './predict.js';
import { replay } from './replay.js';

const A100: ChosenDevice = {
  ...{ device: 'cuda:0', name: 'NVIDIA A100-SXM4-80GB', capability: 8 },
  totalBytes: 79 * 2 ** 30,
};
const CPU: ChosenDevice = { device: 'cpu', name: 'CPU', capability: null, totalBytes: 2 ** 34 };
const record = (tokens: number) => ({ tokens, supervised: 9, images: 1 });

async function planned<T>(
  device: ChosenDevice,
  use: (run: PlannedFor & { readonly model: Llava }) => Promise<T>,
): Promise<T> {
  const recipe = checkRecipe({
    ...{ name: 'test', model: { from: 'x' }, data: { sources: ['x'] } },
    train: { decoder: 'full', projector: 'full' },
    optimizer: { learningRate: 1e-4 },
  });
  const model = tinyLlava();
  try {
    const batches = [[record(40), record(30)], [record(20)]];
    const precision = choosePrecision(recipe.precision, device);
    return await use({ recipe, model, device, precision, ranks: 1, batches });
  } finally {
    model.dispose();
  }
}

test('on a GPU it is the replay of a ghost run on that card', async () => {
  await planned(A100, async (run) => {
    const { card } = readGpus('A100-80GB');
    const { model, ...described } = run;
    const ghost = await ghostRun({
      ...described,
      ...{ model: { kind: 'llava', config: model.config }, card },
    });
    const { allocated, reserved, atPeak } = replay(ghost.lines, ghost.known, { card });
    expect(await predict(run)).toMatchObject({ allocated, reserved, atPeak });
    expect(reserved).toBeGreaterThan(allocated);
  });
});

test('time is that of as many micro-batches as the typical update is worth', async () => {
  await planned(A100, async (run) => {
    const seconds = async (microBatches: number) => {
      const { seconds, time } = await predict({
        ...run,
        typical: { batch: run.batches[0]!, microBatches },
      });
      expect(time!.seconds).toBe(seconds);
      expect(time!.busy).toBeGreaterThan(0);
      return seconds!;
    };
    const [two, twoAndHalf, four] = [await seconds(2), await seconds(2.5), await seconds(4)];
    expect(twoAndHalf - two).toBeCloseTo((four - two) / 4, 10);
    expect(four).toBeGreaterThan(two);
    expect((await predict(run)).seconds).toBe(undefined);
  });
});

test('on the CPU only tensors count, and more records take more', async () => {
  await planned(CPU, async (run) => {
    const { allocated, reserved, atPeak, time } = await predict(run);
    expect({ reserved, atPeak, time }).toEqual({ reserved: allocated, atPeak: {}, time: null });
    const weights = run.model.parameters().reduce((sum, { bytes }) => sum + bytes, 0);
    expect(allocated).toBeGreaterThan(weights);
    const longer = await predict({ ...run, batches: [[record(400)]] });
    expect(longer.allocated).toBeGreaterThan(allocated);
    expect((await predict(run)).allocated).toBe(allocated);
  });
});
