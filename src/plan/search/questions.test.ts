/** Answers are runs that fit, and the next larger ones do not. */
import { expect, test } from 'vitest';
import { plan } from '../plan.js';
import { answer } from './questions.js';
import { cardsOf, smallRecipe } from './testing.js';

const fits = async (set: readonly string[], gpus: ReturnType<typeof cardsOf>): Promise<boolean> =>
  (await plan(smallRecipe(set), { gpus })).fits;

const reservedBy = async (set: readonly string[], count = 1): Promise<number> =>
  (await plan(smallRecipe(set), { gpus: cardsOf(2 ** 40, count) })).perRank[0]!.reserved;

test('the largest micro-batch keeps the records of an update', async () => {
  const gpus = cardsOf(await reservedBy(['batchSize=4']), 1);
  const found = await answer('batch', smallRecipe(), { gpus });
  expect(found).toEqual({ set: ['batchSize=4'], gpus });
  expect(await fits(found!.set, gpus)).toBe(true);
  expect(await fits(['batchSize=8'], gpus)).toBe(false);
});

test('the largest budget of tokens', async () => {
  const gpus = cardsOf(await reservedBy(['batchTokens=1536']), 1);
  const found = await answer('batch', smallRecipe(['batchTokens=512']), { gpus });
  const tokens = Number(found!.set[0]!.split('=')[1]);
  expect(tokens).toBeGreaterThanOrEqual(1536);
  expect(await fits([`batchTokens=${tokens}`], gpus)).toBe(true);
  expect(await fits([`batchTokens=${tokens + 512}`], gpus)).toBe(false);
});

test('the longest record', async () => {
  const gpus = cardsOf(await reservedBy(['text.maxLength=1024', 'batchSize=1']), 1);
  const found = await answer('sample', smallRecipe(), { gpus });
  const length = Number(found!.set[0]!.split('=')[1]);
  expect(length).toBeGreaterThanOrEqual(1024);
  expect(length).toBeLessThan(2048);
  expect(await fits(found!.set, gpus)).toBe(true);
  expect(await fits([`text.maxLength=${length + 128}`, 'batchSize=1'], gpus)).toBe(false);
});

test('the fewest GPUs, of those that can share the batch out', async () => {
  const shared = ['parallel.zero=3', 'batchSize=1'];
  const gpus = cardsOf(await reservedBy(shared, 4), 1);
  const found = await answer('gpus', smallRecipe(shared), { gpus });
  expect(found!.set).toEqual([]);
  expect(found!.gpus.count).toBeLessThanOrEqual(4);
  expect(await fits(shared, found!.gpus)).toBe(true);
  expect(await fits(shared, { ...gpus, count: found!.gpus.count / 2 })).toBe(false);
});

test('nothing is enough where nothing can be', async () => {
  const gpus = cardsOf(2 ** 20, 1);
  for (const question of ['batch', 'sample', 'gpus'] as const) {
    expect(await answer(question, smallRecipe(), { gpus })).toBeNull();
  }
});
