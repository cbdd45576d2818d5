import { expect, test } from 'vitest';

import { effectiveBatch } from './effective-batch.js';
import { checkRecipe } from './load-recipe.js';

function batch(fields: object, worldSize = 1) {
  const recipe = checkRecipe({
    name: 'x',
    model: { from: 'org/model' },
    data: { sources: ['org/data'] },
    optimizer: { learningRate: 1 },
    ...fields,
  });
  return effectiveBatch(recipe, worldSize);
}

test.each([
  [{}, 1, 1, 1],
  [{ batchSize: 4 }, 2, 1, 8],
  [{ batchSize: 4, accumulate: 3 }, 2, 3, 24],
  [{ batchSize: 32, effectiveBatch: 256 }, 8, 1, 256],
  [{ batchSize: 1, effectiveBatch: 256 }, 1, 256, 256],
])('%j on %d devices', (fields, worldSize, accumulate, records) => {
  expect(batch(fields, worldSize)).toMatchObject({ accumulate, records, learningRateScale: 1 });
});

test('another batch than the recipe means follows the rule, and says so', () => {
  const fields = { batchSize: 4, accumulate: 4, effectiveBatch: 64 };
  expect(batch(fields)).toMatchObject({
    learningRateScale: 1,
    statement:
      'batch 4 x 4 accumulated x 1 device = 16 records an update, not the 64 that the recipe is meant for: ' +
      'learning rates stay as they are (learningRateRule: keep)',
  });
  expect(batch({ ...fields, learningRateRule: 'linear' }).learningRateScale).toBe(0.25);
  const sqrt = batch({ ...fields, learningRateRule: 'sqrt' });
  expect(sqrt.learningRateScale).toBe(0.5);
  expect(sqrt.statement).toContain('multiplied by 0.5, the square root of 0.25');
});

test('a batch that cannot be reached is a typed error', () => {
  expect(() => batch({ batchSize: 3, effectiveBatch: 256 }, 8)).toThrow(
    expect.objectContaining({ code: 'E_BATCH', exitCode: 2 }),
  );
  // No batchSize divides it on more devices than it has records.
  expect(() => batch({ effectiveBatch: 2 }, 8)).toThrow(
    expect.objectContaining({
      hint: expect.stringMatching(/train on 2 devices at most/) as unknown,
    }),
  );
});

test('records that are packed by tokens are those that the recipe means, on any number of devices', () => {
  const fields = { batchTokens: 8192, effectiveBatch: 100 };
  expect(batch(fields, 8)).toEqual({
    ...{ accumulate: null, records: 100, learningRateScale: 1 },
    statement: '100 records an update, packed into micro-batches of up to 8192 tokens on 8 devices',
  });
  expect(batch({ ...fields, batchImages: 12 }).statement).toContain(
    'of up to 8192 tokens and 12 pictures on 1 device',
  );
  expect(batch({ batchTokens: 1, batchImages: 1, effectiveBatch: 1 }).statement).toBe(
    '1 record an update, packed into micro-batches of up to 1 token and 1 picture on 1 device',
  );
});
