/** A plan by the data: lengths, updates and times are those of the run. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import { checkRecipe, effectiveBatch, type Recipe, type RecipeInput } from '../config/index.js';
import { train, type TrainEvent } from '../train/index.js';
import { colourRecord, ColourFolder } from '../train/testing-files.js';
import { readGpus } from './devices/cards.js';
import { modelConfigOf } from './model-config.js';
import { openPlanData, type PlanData } from './plan-data.js';
import { plan } from './plan.js';
import { SeenUpdates } from './seen-updates.js';

const TILED = join(packageRoot(), 'test/fixtures/llava/next-llama3/hf');

let folder: ColourFolder;
let cache: string;
beforeAll(async () => {
  folder = await ColourFolder.make();
  cache = folder.at('lengths');
});
afterAll(() => folder.remove());

const gpus = readGpus('2xA100-40GB');

/** Fourteen records, one of which is long. */
function recipeOf(more: Partial<RecipeInput> = {}): Recipe {
  const records = Array.from({ length: 14 }, (_, i) => colourRecord(i));
  records[6] = {
    id: 6,
    conversations: [
      { from: 'human', value: 'Which? '.repeat(100) },
      { from: 'gpt', value: 'It is red.' },
    ],
  };
  const file = folder.writeRecords('data.jsonl', records);
  return checkRecipe(folder.recipe({ data: { sources: [file], workers: 0 }, ...more }));
}

async function dataOf(recipe: Recipe): Promise<PlanData> {
  return openPlanData(recipe, { model: await modelConfigOf(recipe), cache });
}

async function planned(more: Partial<RecipeInput> = {}) {
  const recipe = recipeOf(more);
  return plan(recipe, { gpus, data: await dataOf(recipe) });
}

describe('by records', () => {
  test('the heaviest micro-batch has the longest record, and updates are counted', async () => {
    const { batch, data, seconds, tokensPerSecond } = await planned({ schedule: { epochs: 3 } });
    const { recordTokens, microBatchTokens } = data!;
    expect(recordTokens.most).toBeGreaterThan(5 * recordTokens.median);
    expect(batch.tokens).toBe(microBatchTokens.most);
    expect(batch.tokens).toBeGreaterThan(recordTokens.most);
    expect(batch).toMatchObject({ records: 2, microBatches: 1 });
    expect(data).toMatchObject({
      ...{ records: 14, leftOut: 0, recordsPerEpoch: 14, updatesPerEpoch: 4, updates: 12 },
      ...{ microBatches: 1, fill: null },
    });
    expect(data!.balance).toBeLessThan(1);
    expect(seconds.run).toBeCloseTo(12 * seconds.update, 10);
    expect(tokensPerSecond).toBeCloseTo(data!.tokensPerUpdate / seconds.update, 5);
    // 14 records in 4 updates.
    expect(data!.tokensPerUpdate).toBeCloseTo((recordTokens.mean * 14) / 4, 5);
  });

  test('a run counts as many tokens', async () => {
    const recipe = recipeOf({ schedule: { epochs: 1 } });
    const data = await dataOf(recipe);
    const { facts } = data.batches(recipe, effectiveBatch(recipe, 1), 1);
    const events: TrainEvent[] = [];
    for await (const event of train(recipe)) events.push(event);
    const updates = events.filter((event) => event.type === 'update');
    const tokens = updates.map(({ counts }) => counts.tokens);
    expect(facts.updates).toBe(updates.length);
    expect(facts.tokensPerUpdate * updates.length).toBeCloseTo(
      tokens.reduce((a, b) => a + b),
      5,
    );
    expect(facts.microBatchTokens.most).toBe(Math.max(...tokens));
  });
});

test('by tokens, micro-batches are filled, and as many as the data make', async () => {
  const most = { batchTokens: 400, effectiveBatch: 14, batchSize: undefined };
  const { batch, data } = await planned(most);
  expect(data!.fill).toBeGreaterThan(0.2);
  expect(data!.fill).toBeLessThanOrEqual(1);
  expect(data!.microBatchTokens.most).toBeLessThanOrEqual(400);
  expect(batch.microBatches).toBe(data!.microBatches);
  expect(data!.fill).toBeCloseTo(data!.microBatchTokens.mean / 400, 10);
});

test('what was counted of pictures in tiles counts for the same reading alone, and the same pictures', async () => {
  const most = async (reading: 'turned' | 'stored', pictures: string): Promise<number> => {
    const path = folder.writeRecords('turned.jsonl', [colourRecord(0, 'turned.jpg')]);
    const sources = [{ path, images: folder.at(pictures) }];
    const recipe = checkRecipe({
      ...folder.recipe({ model: { from: TILED }, data: { sources, workers: 0 } }),
      image: { reading },
    });
    const { facts } = (await dataOf(recipe)).batches(recipe, effectiveBatch(recipe, 1), 1);
    return facts.recordTokens.most;
  };
  for (const [pictures, width, height] of [
    ['wide', 32, 8],
    ['square', 8, 8],
  ] as const) {
    mkdirSync(folder.at(pictures));
    const create = { width, height, channels: 3, background: 'red' } as const;
    await sharp({ create })
      .withMetadata({ orientation: 6 })
      .toFile(folder.at(pictures, 'turned.jpg'));
  }
  const turned = await most('turned', 'wide');
  expect(await most('stored', 'wide')).not.toBe(turned);
  expect(await most('turned', 'wide')).toBe(turned);
  expect(await most('turned', 'square')).not.toBe(turned);
});

test('validation and questions are planned for as they are', async () => {
  const question = { text: 'Which colour is it? '.repeat(40), images: [] };
  const recipe = recipeOf({
    validation: { sources: [folder.at('one.jsonl')] },
    probes: { questions: [question], maxNewTokens: 4 },
  });
  const data = await dataOf(recipe);
  const { validation } = data.batches(recipe, effectiveBatch(recipe, 1), 1);
  expect(validation).toHaveLength(2);
  const [probe] = data.probes;
  expect(probe!.tokens).toBeGreaterThan(200);
  expect(probe!.tokens).toBeLessThan(Buffer.byteLength(question.text));
  const { timeline } = await plan(recipe, { gpus, data });
  expect(timeline.map(({ phase }) => phase)).toEqual(
    expect.arrayContaining(['validation', 'probes', 'save']),
  );
});

test('records that are left out are told; where none is left that is an error', async () => {
  const bad = { id: 1, conversations: [] };
  const file = folder.writeRecords('bad.jsonl', [bad, colourRecord(1), bad]);
  const of = (name: string) => ({ data: { sources: [name], workers: 0 } });
  const { data } = await planned(of(file));
  expect(data).toMatchObject({ records: 3, leftOut: 2 });
  const none = folder.writeRecords('none.jsonl', [bad]);
  await expect(planned(of(none))).rejects.toMatchObject({ code: 'E_DATA_UNUSABLE' });
  await expect(planned(of(join(folder.path, 'nowhere')))).rejects.toMatchObject({
    code: 'E_PATH_MISSING',
  });
});

test('a model without a tokenizer is refused as by a run', async () => {
  const recipe = recipeOf();
  const model = { ...recipe.model, tokenizer: folder.runs };
  await expect(dataOf({ ...recipe, model })).rejects.toMatchObject({
    code: expect.stringMatching(/^E_(PATH|TOKENIZER)_MISSING$/) as string,
  });
});

test('a typical micro-batch is one that is nearest to what the slowest of a step has', () => {
  const seen = new SeenUpdates();
  const of = (tokens: number) => [{ tokens, supervised: 1, images: 0 }];
  for (let i = 1; i <= 5000; i++) seen.add([[of(i)], [of(2 * i)]]);
  const wanted = 5001;
  const [typical] = seen.typical;
  expect(Math.abs(typical!.tokens - wanted)).toBeLessThan(50);
  expect(seen.heaviest).toEqual(of(10_000));
  const { balance, recordTokens, microBatches, tokensPerUpdate } = seen.facts(undefined);
  expect({ balance, microBatches }).toEqual({ balance: 0.75, microBatches: 1 });
  expect(recordTokens).toMatchObject({ most: 10_000 });
  expect(tokensPerUpdate).toBe(1.5 * 5001);
});
