import { expect, test } from 'vitest';

import { checkRecipe, type RecipeInput } from '../../config/index.js';
import { describePacking } from './packing.js';

const LENGTHS = [1000, 3000, -200, 600, -200];

function say(more: Partial<RecipeInput>, worldSize = 1): Promise<string[]> {
  const recipe = checkRecipe({
    name: 'x',
    model: { from: 'x' },
    data: { sources: ['x'] },
    optimizer: { learningRate: 1 },
    ...more,
  });
  const data = { someLengths: () => Promise.resolve(Int32Array.from(LENGTHS)) };
  return describePacking(recipe, { data, worldSize });
}

const PACKED = { batchTokens: 2048, effectiveBatch: 100 };

test('what a budget makes of the records is said, where there is one', async () => {
  expect(await say({ batchSize: 4 })).toEqual([]);
  // Of 3,000 tokens 2,048 are left.
  expect(await say(PACKED)).toEqual([
    'about 810 tokens a record: about 40 micro-batches an update',
  ]);
  expect(await say(PACKED, 8)).toEqual([
    'about 810 tokens a record: about 5 micro-batches an update on each device',
  ]);
  expect(await say({ ...PACKED, effectiveBatch: 2 })).toEqual([
    'about 810 tokens a record: about 1 micro-batch an update',
  ]);
});

test('pictures may need more micro-batches than tokens do', async () => {
  const [said] = await say({ ...PACKED, batchImages: 1 });
  expect(said).toContain('about 60 micro-batches');
});

test('records that are cut for the budget alone are told of', async () => {
  for (const [overlong, what] of [
    ['truncate', 'cut'],
    ['skip', 'left out'],
    ['stop', 'refused'],
  ] as const) {
    const [, said] = await say({ ...PACKED, batchTokens: 512, text: { overlong } });
    expect(said).toBe(
      `records of more than 512 tokens are ${what}: batchTokens is less than text.maxLength (2048)`,
    );
  }
});
