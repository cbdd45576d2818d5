import { afterEach, describe, expect, test } from 'vitest';
import { checkRecipe, type Recipe } from '../../config/index.js';
import type { Llava } from '../../models/index.js';
import { RandomGenerator } from '../../torch/index.js';
import { tinyLlava } from '../step/testing.js';
import { prepareTrainable, type Trainable } from './trainable.js';

const open: { dispose(): void }[] = [];
afterEach(() => {
  for (const item of open.splice(0)) item.dispose();
});

function prepare(train: unknown, optimizer: object = {}): Trainable & { model: Llava } {
  const recipe: Recipe = checkRecipe({
    name: 'test',
    model: { from: 'x' },
    data: { sources: ['x'] },
    train,
    optimizer: { learningRate: 1e-3, ...optimizer },
  });
  const model = tinyLlava();
  const generator = RandomGenerator.create(3);
  open.push(model, generator);
  const made = prepareTrainable(model, {
    train: recipe.train,
    optimizer: recipe.optimizer,
    dtype: 'float32',
    device: 'cpu',
    generator,
  });
  return { ...made, model };
}

test('nothing above the selected layer of the tower trains', () => {
  const { parameters } = prepare({ vision: 'full', projector: 'frozen', decoder: 'frozen' });
  expect(parameters.size).toBeGreaterThan(10);
  // Three blocks, layer -2: the last block is not read.
  expect([...parameters.keys()].some((name) => name.includes('layers.2.'))).toBe(false);
  expect([...parameters.values()].every((p) => p.requiresGrad)).toBe(true);
});

test('LoRA on all linear layers of the decoder but the head; the base stays frozen', () => {
  const { parameters, model, table } = prepare({
    decoder: { lora: { rank: 2, alpha: 4 } },
    projector: 'frozen',
  });
  expect(parameters.size).toBe(2 * 7 * 2);
  expect(
    [...parameters.keys()].every((name) =>
      /language_model\.layers\..*lora_[AB]\.weight$/.test(name),
    ),
  ).toBe(true);
  expect(model.namedParameters().get('lm_head.weight')!.requiresGrad).toBe(false);
  expect(table.find(({ kind }) => kind === 'LoRA r 2')).toMatchObject({
    part: 'decoder',
    tensors: 28,
  });
  expect(
    table.find(({ part, kind }) => part === 'vision' && kind === 'frozen')!.tensors,
  ).toBeGreaterThan(10);
});

test('patterns, saved modules, LoRA+ and groups', () => {
  const { groups, parameters } = prepare(
    { decoder: { lora: { targets: ['*.q_proj'], modulesToSave: ['lm_head'], loraPlusRatio: 16 } } },
    { groups: [{ parameters: '*multi_modal_projector*', learningRate: 5e-4 }], weightDecay: 0.1 },
  );
  const rates = new Map(
    groups.flatMap((g) => [...g.parameters.keys()].map((name) => [name, g] as const)),
  );
  expect(parameters.has('lm_head.weight')).toBe(true);
  const rateOf = (part: string) =>
    rates.get([...rates.keys()].find((name) => name.includes(part))!)!;
  expect(rateOf('lora_A').learningRate).toBeCloseTo(1e-3, 12);
  expect(rateOf('lora_B').learningRate).toBeCloseTo(16e-3, 12);
  expect(rateOf('linear_1.weight').learningRate).toBeCloseTo(5e-4, 12);
  expect(rateOf('linear_1.weight').weightDecay).toBe(0.1);
  expect(rateOf('linear_1.bias').weightDecay).toBe(0);
});

describe('patterns that match nothing are errors', () => {
  test.each([
    [{ decoder: { lora: { targets: ['*.qq_proj'] } } }, {}],
    [{ decoder: { lora: { modulesToSave: ['lm_heat'] } } }, {}],
    [{ decoder: 'full' }, { groups: [{ parameters: 'nothing.*', learningRate: 1 }] }],
  ])('%j %j', (train, optimizer) => {
    expect(() => prepare(train, optimizer)).toThrow(
      expect.objectContaining({ code: 'E_TRAIN_PATTERN' }) as Error,
    );
  });
});
