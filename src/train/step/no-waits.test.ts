/** The host queues an update, its batches included, without waiting for the device: nothing in it reads a value. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { checkRecipe, type RecipeInput } from '../../config/index.js';
import { finish, laySideBySide, type Batch, type Llava } from '../../models/index.js';
import { AdamW, Gate, LossScale, schedule } from '../../optim/index.js';
import {
  cudaAvailable,
  hold,
  RandomGenerator,
  Tensor,
  type Device,
  type DType,
} from '../../torch/index.js';
import { prepareTrainable } from '../prepare/trainable.js';
import { updateRange } from '../profile/ranges.js';
import { UpdateRecorder } from '../profile/update-recorder.js';
import { AccumulatingStore } from './accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from './memory-policy.js';
import { Randomness } from './randomness.js';
import { tinyBatch, tinyLlava, tinyTextBatch } from './testing.js';
import { UpdateInBackward } from './update-in-backward.js';
import { runUpdate, type UpdateResult } from './update.js';

let folder: string;
const open: { dispose(): void }[] = [];
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'no-waits-'));
});
afterEach(async () => {
  for (const each of open.splice(0).reverse()) each.dispose();
  vi.restoreAllMocks();
  await rm(folder, { recursive: true });
});

const LORA = { lora: { rank: 2, alpha: 4, dropout: 0.1 } };
const FULL = { vision: 'full', projector: 'full', decoder: 'full' } as const;

interface Case {
  train: RecipeInput['train'];
  policy?: MemoryPolicy;
  inBackward?: boolean;
  scaled?: boolean;
  clipNorm?: number;
}

function setupOf(
  { train, policy = 'keep', inBackward = false, scaled = false, clipNorm }: Case,
  device: Device,
) {
  const dtype: DType = device === 'cpu' ? 'float32' : 'bfloat16';
  const model: Llava = tinyLlava({ dtype, device });
  const generator = RandomGenerator.create(5, device);
  const recipe = checkRecipe({
    ...{ name: 'tiny', model: { from: 'x' }, data: { sources: ['x'] }, train },
    optimizer: { learningRate: 1e-3 },
  });
  const { groups } = prepareTrainable(model, {
    ...{ ...recipe, dtype, device, generator },
  });
  generator.dispose();
  laySideBySide(model);
  const randomness = new Randomness(1);
  const parts = { model, optimizer: new AdamW(groups), gate: new Gate(device), randomness };
  const store = inBackward
    ? new UpdateInBackward(parts)
    : new AccumulatingStore({ ...parts, clipNorm });
  open.push(model, store);
  const lossScale = scaled ? new LossScale(device) : undefined;
  if (lossScale !== undefined) open.push(lossScale);
  return {
    ...{ model, store, randomness, device },
    ...(lossScale === undefined ? {} : { lossScale }),
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ shape: 'constant', updates: 10 }),
  };
}

describe.each<Device>(cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'])(
  'an update on %s',
  (device) => {
    test.each<[string, Case]>([
      ['full, with clipping', { train: FULL, clipNorm: 1 }],
      ['full, in backward', { train: FULL, inBackward: true }],
      ['with a loss scale', { train: FULL, scaled: true }],
      ['LoRA with dropout', { train: { decoder: LORA, projector: 'full' } }],
      ['LoRA, products', { train: { decoder: LORA }, policy: 'products' }],
      ['LoRA, attention', { train: { decoder: LORA }, policy: 'attention' }],
      ['LoRA, recomputing', { train: { decoder: LORA }, policy: 'recompute' }],
      ['the projector alone, offloading', { train: { projector: 'full' }, policy: 'offload' }],
    ])('%s', async (_name, given) => {
      const setup = setupOf(given, device);
      const update = (number: number): UpdateResult => {
        using batches = hold((): Batch[] =>
          given.inBackward
            ? [tinyBatch(0, device)]
            : [tinyBatch(0, device), tinyTextBatch(1, device), tinyBatch(2, device)],
        );
        return finish(runUpdate(setup, number, batches.value));
      };
      // What is compiled, chosen and allocated once does make the host wait.
      for (const number of [0, 1]) update(number).numbers.dispose();
      const reads = (['item', 'toTypedArray', 'toBytes', 'toArray'] as const).map((name) =>
        vi.spyOn(Tensor.prototype, name),
      );
      const recorder = new UpdateRecorder(device);
      let result;
      {
        using _ = updateRange(2);
        result = update(2);
      }
      for (const read of reads) expect(read).not.toHaveBeenCalled();
      const profile = await recorder.stop(join(folder, 'trace.json.gz'));
      expect(profile.waits).toEqual({});
      expect(profile.work['products']!.decoder).toBeGreaterThan(0);

      // And its numbers come late.
      expect(result.numbers.read().lossSum[0]).toBeGreaterThan(0);
      expect(reads[1]).toHaveBeenCalled();
    });
  },
);
