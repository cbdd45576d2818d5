/** Plans of the built-in recipes: no weights, no network, no GPU. */
import { describe, expect, test } from 'vitest';
import { checkRecipe, type RecipeInput } from '../config/index.js';
import { Calibration } from './calibration/calibration.js';
import { measuredRun, VERSIONS } from './calibration/testing.js';
import { readGpus } from './devices/cards.js';
import { TINY_CONFIG } from '../train/testing-files.js';
import { CATEGORIES } from './categories.js';
import { plan } from './plan.js';

/** The second stage of LLaVA-Llama-3-8B, with one record on each GPU. */
const FINETUNE: RecipeInput = {
  ...{ name: 'finetune', data: { sources: ['x'] }, batchSize: 1, effectiveBatch: 128 },
  model: {
    llm: 'meta-llama/Meta-Llama-3-8B-Instruct',
    vision: 'openai/clip-vit-large-patch14-336',
    projector: './projector',
  },
  train: { vision: { lora: { rank: 64, alpha: 16 } }, projector: 'full', decoder: 'full' },
  optimizer: { learningRate: 2e-5 },
};

const planned = (more: Partial<RecipeInput>, gpus = '8xA100-40GB') =>
  plan(checkRecipe({ ...FINETUNE, ...more }), { gpus: readGpus(gpus) });

describe('full training on 8 x A100-40GB', () => {
  test('without sharing it does not fit, at stage 3 and by LoRA it does', async () => {
    const [alone, third, lora] = [
      await planned({}),
      await planned({ parallel: { zero: 3 } }),
      await planned({ train: { decoder: { lora: {} } } }),
    ];
    expect([alone, third, lora].map(({ fits }) => fits)).toEqual([false, true, true]);
    expect(alone.margin).toBeLessThan(-60 * 2 ** 30);
    expect(third.perRank).toHaveLength(8);
    const { atPeak, allocated, reserved, total } = third.perRank[7]!;
    expect(Object.keys(atPeak)).toEqual([...CATEGORIES]);
    expect(allocated).toBeLessThanOrEqual(reserved);
    expect(total).toBeLessThan(third.gpu.memory);
    for (const bytes of [total, third.margin, third.gpu.memory]) expect(bytes % 1).toBe(0);
    expect(third.timeline.map(({ phase }) => phase)).toContain('backward');
    expect(third.seconds.update).toBeGreaterThan(1);
  }, 300_000);
});

test.each<[string, Partial<RecipeInput['model']>, RegExp]>([
  ['of a new model', { config: TINY_CONFIG, featureLayer: 7 }, /featureLayer 7: .* say -1/],
  ['of a decoder', { llm: 'meta-llama/Meta-Llama-3-8B-Instruct', projectorDepth: 3 }, /no vision/],
])('a setting %s that a run would refuse is refused', async (_, model, why) => {
  const refused = planned({ model: { tokenizer: './tokenizer', ...model } });
  await expect(refused).rejects.toMatchObject({ code: 'E_UNUSED_CHOICE' });
  await expect(refused).rejects.toThrow(why);
});

test.each<[string, Partial<RecipeInput>]>([
  ['1000000000 tokens', { text: { maxLength: 1e9 } }],
  ['200000000 tokens', { batchSize: 1e5, text: { maxLength: 2000 } }],
  [
    '40000 chunks of the loss',
    { batchSize: 20, text: { maxLength: 2000 }, memory: { lossChunk: 1 } },
  ],
])('a micro-batch of %s is refused before it is made', async (what, more) => {
  const refused = planned({ ...more, accumulate: 1 });
  await expect(refused).rejects.toMatchObject({ code: 'E_PLAN_BATCH' });
  await expect(refused).rejects.toThrow(`a micro-batch of ${what} is more`);
});

test('answers to tasks are not counted, which the plan says', async () => {
  const tiny: Partial<RecipeInput> = {
    ...{ model: { config: TINY_CONFIG, tokenizer: './tokenizer' }, text: { maxLength: 64 } },
    ...{ train: { decoder: 'full' }, batchSize: 1, effectiveBatch: 8 },
  };
  const tasks = [{ task: 'pope', data: './pope.jsonl' }];
  const [without, asked] = [
    await planned({ ...tiny, validation: { fraction: 0.1 } }),
    await planned({ ...tiny, validation: { tasks } }),
  ];
  expect(without.accuracy.basis).not.toContain('tasks');
  expect(asked.accuracy.basis).toMatch(/; answers to `validation\.tasks` are not counted$/);
  expect(asked.perRank).toEqual(without.perRank);
});

describe('with what earlier runs on the card have measured', () => {
  const runs = [1.1, 1.2, 1.3].map((time) =>
    measuredRun({ time, ranks: 8, kind: 'lora, bf16', context: 2 ** 30 }),
  );
  const calibration = new Calibration(runs, VERSIONS);
  const both = async (more: Partial<RecipeInput>) => {
    const recipe = checkRecipe({ ...FINETUNE, ...more });
    const gpus = readGpus('8xA100-40GB');
    return [await plan(recipe, { gpus }), await plan(recipe, { gpus, calibration })] as const;
  };

  test('time and what lies beside the allocator are theirs, all else is the step program', async () => {
    const [plain, calibrated] = await both({ train: { decoder: { lora: {} } } });
    expect(calibrated.seconds.update / plain.seconds.update).toBeCloseTo(1.2, 10);
    expect(plain.tokensPerSecond / calibrated.tokensPerSecond).toBeCloseTo(1.2, 10);
    const [before, after] = [plain.perRank[0]!, calibrated.perRank[0]!];
    expect(after).toEqual({ ...before, total: before.reserved + 2 ** 30 });
    expect(calibrated.timeline).toEqual(plain.timeline);
    expect(plain.margin - calibrated.margin).toBe(after.total - before.total);
    expect(plain.accuracy.calibration).toEqual({ context: null, time: null });
    expect(calibrated.accuracy).toMatchObject({
      interval: plain.accuracy.interval,
      calibration: { context: 2 ** 30, time: { factor: 1.2, runs: 3, sameKind: true } },
    });
    expect(calibrated.accuracy.basis).toContain(
      'calibrated by 3 runs of this kind on this card, ±8 % (they took 1.20 times as long)',
    );
  });

  test('what the host holds up keeps its time', async () => {
    const tiny: Partial<RecipeInput> = {
      ...{ model: { config: TINY_CONFIG, tokenizer: './tokenizer' }, text: { maxLength: 64 } },
      ...{ batchSize: 1, effectiveBatch: 8 },
    };
    const [plain, calibrated] = await both({ ...tiny, train: { decoder: { lora: {} } } });
    expect(plain.seconds.busy).toBeLessThan(0.8);
    expect(calibrated.seconds).toEqual(plain.seconds);
    expect(calibrated.accuracy.calibration.time).toBe(null);
  });
});

test('a base in fp8 is refused for a card without it, as a run there is', async () => {
  const train = { decoder: { lora: {}, base: 'fp8' as const } };
  await expect(planned({ train }, 'A100')).rejects.toMatchObject({ code: 'E_FP8_DEVICE' });
  expect((await planned({ train }, 'L40S')).ranks).toBe(1);
});

test.each(['9xH999', '0xH200', 'x'])('%s are no GPUs', (gpus) => {
  expect(() => readGpus(gpus)).toThrow(expect.objectContaining({ code: 'E_GPUS' }) as Error);
});

test.each([
  ['8xA100-40GB', 8, 'A100-40GB'],
  ['2 x h200', 2, 'H200'],
  ['A100', 1, 'A100-80GB'],
  ['RTX 4090', 1, 'RTX4090'],
  ['4x4090', 4, 'RTX4090'],
])('%s are %i x %s', (text, count, name) => {
  expect(readGpus(text)).toMatchObject({ count, card: { name } });
});
