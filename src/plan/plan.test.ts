/** Plans of the built-in recipes: no weights, no network, no GPU. */
import { describe, expect, test } from 'vitest';
import { checkRecipe, type RecipeInput } from '../config/index.js';
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
