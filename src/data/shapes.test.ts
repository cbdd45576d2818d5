/** Shapes of records and of updates are those of what is loaded. */
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import type { InputFacts } from '../models/sample.js';
import { mostOf } from '../models/tiles.js';
import { openDataset, type DataRecipe, type Dataset, type UpdatesOptions } from './dataset.js';
import type { UpdateData } from './loading/batches.js';
import { RecordLoader } from './loading/record-loader.js';
import type { RecordShape, RecordShapes } from './loading/record-shapes.js';
import type { Batching } from './sampling/plan.js';
import { dataRecipe, type RecipeOptions, INPUT, record, TestFolder, TOKENIZER } from './testing.js';

let folder: TestFolder;
let many: string;

beforeAll(async () => {
  folder = await TestFolder.make();
  await folder.writeImage('red.png', 255);
  const records = Array.from({ length: 23 }, (_, i) =>
    record(i, 1 + ((i * 7) % 13), i % 3 === 0 ? 'red.png' : undefined),
  );
  // One without an answer, which is bad.
  records[5] = { id: 5, conversations: [{ from: 'human', value: 'What?' }] };
  many = await folder.writeLines('many.jsonl', records);
});
afterAll(() => folder.remove());

const BASIS = 'a tokenizer';

async function opened<T>(
  recipe: DataRecipe,
  use: (data: Dataset) => Promise<T>,
  input: InputFacts = INPUT,
): Promise<T> {
  await using data = await openDataset(recipe, { tokenizer: TOKENIZER, input });
  return await use(data);
}

const shapeOf = (sample: UpdateData['microBatches'][number]['samples'][number]): RecordShape => ({
  tokens: sample.inputIds.length,
  supervised: sample.supervised,
  images: sample.images.length,
});

/** What a rank is given of each update; micro-batches without records left out. */
async function loaded(
  data: Dataset,
  options: UpdatesOptions & { readonly rank: number },
): Promise<RecordShape[][][]> {
  const updates: RecordShape[][][] = [];
  const exchange = (own: unknown): Promise<never> => Promise.resolve([own] as never);
  for await (const { microBatches } of data.updates({ ...options, exchange })) {
    const shapes = microBatches.map(({ samples }) => samples.map(shapeOf));
    updates.push(shapes.filter((batch) => batch.length > 0));
  }
  return updates;
}

describe.each<[string, Partial<DataRecipe['data']>]>([
  ['shuffled', {}],
  ['grouped by modality', { grouping: 'modality' }],
  ['grouped by length', { grouping: 'length' }],
])('%s', (_, data) => {
  test.each<[string, Batching]>([
    ['records', { batchSize: 2, accumulate: 2, worldSize: 1 }],
    ['records over ranks', { batchSize: 2, accumulate: 2, worldSize: 3 }],
    ['tokens', { batchTokens: 60, effectiveBatch: 8, worldSize: 1 }],
    [
      'tokens and pictures over ranks',
      { batchTokens: 60, batchImages: 1, effectiveBatch: 8, worldSize: 2 },
    ],
  ])('micro-batches of %s are those that are loaded', async (__, options) => {
    const recipe = { ...dataRecipe([many], { data: { badRecords: 'skip', ...data } }) };
    const { batchTokens } = options as { batchTokens?: number };
    await opened({ ...recipe, batchTokens, batchImages: undefined }, async (opened_) => {
      const shapes = await opened_.shapes({ basis: BASIS });
      const stretch = { ...options, until: 2 * opened_.recordsPerEpoch };
      const shaped = [...opened_.shapedUpdates(shapes, stretch)];
      for (let rank = 0; rank < options.worldSize!; rank++) {
        const expected = await loaded(opened_, { ...stretch, rank });
        expect(shaped.map((update) => update[rank])).toEqual(expected);
      }
    });
  });
});

test.each([
  ['their sizes', undefined],
  ['their sizes, or from how many a record has', 1],
])('pictures in tiles take the tokens that follow from %s', async (_, max) => {
  const sizes = [
    [30, 60],
    [60, 30],
    [7, 9],
  ] as const;
  for (const [height, width] of sizes) {
    const pixels = sharp({ create: { width, height, channels: 3, background: 'red' } });
    await pixels.png().toFile(join(folder.path, `${height}x${width}.png`));
  }
  const records = [
    ...sizes.map(([height, width], i) => record(i, 2, `${height}x${width}.png`)),
    {
      images: ['30x60.png', '7x9.png'],
      conversations: [
        { from: 'human', value: '<image><image>' },
        { from: 'gpt', value: 'two' },
      ],
    },
  ];
  const file = await folder.writeLines('sizes.jsonl', records);
  const { image } = INPUT;
  const { size } = image!;
  const pinpoints = [
    { height: size, width: 2 * size },
    { height: 2 * size, width: size },
  ];
  const tiles = { pinpoints, size, patches: 2, max };
  const input = { ...INPUT, image: { ...image!, tokens: mostOf(tiles).tokens, tiles } };
  await opened(
    dataRecipe([file]),
    async (data) => {
      const shapes = await data.shapes({ basis: BASIS });
      const options = { batchSize: 1, accumulate: 1, worldSize: 1, until: records.length };
      const shaped = [...data.shapedUpdates(shapes, options)].map(([own]) => own);
      expect(shaped).toEqual(await loaded(data, { ...options, rank: 0 }));
      expect(new Set(shaped.map((update) => update![0]![0]!.tokens)).size).toBeGreaterThan(1);
    },
    input,
  );
});

test('a record that is left out has no shape, a picture that is not there has its tokens', async () => {
  const file = await folder.writeLines('odd.jsonl', [
    record('a', 3),
    { id: 'b', conversations: [] },
    record('c', 3, 'nowhere.png'),
    'no record',
    record('d', 3, 'red.png'),
  ]);
  await opened(dataRecipe([file]), async (data) => {
    const shapes = await data.shapes({ basis: BASIS });
    const [a, b, c, text, d] = [0, 1, 2, 3, 4].map((each) => shapes.of(each));
    expect([b, text, shapes.of(5)]).toEqual([null, null, null]);
    expect(c).toEqual(d);
    expect(a).toMatchObject({ images: 0 });
    expect(c!.tokens - a!.tokens).toBeGreaterThanOrEqual(4);
  });
});

test.each<[string, () => RecipeOptions['validation']]>([
  ['held out', () => ({ fraction: 0.4 })],
  ['of its own', () => ({ sources: [{ path: many, weight: 1 }], limit: 7 })],
])('validation that is %s is shaped like it is loaded', async (_, validation) => {
  const recipe = dataRecipe([many], {
    data: { badRecords: 'skip' },
    validation: validation()!,
  });
  await opened(recipe, async (data) => {
    const shapes = await data.shapes({ basis: BASIS });
    const shaped = [...data.shapedValidation(shapes, { batchSize: 2 })].map(([own]) => own);
    const expected: RecordShape[][][] = [];
    for await (const { microBatches } of data.validation({ batchSize: 2 })) {
      expected.push(microBatches.map(({ samples }) => samples.map(shapeOf)));
    }
    expect(shaped).toEqual(expected);
  });
});

describe('counts are kept', () => {
  const count = vi.spyOn(RecordLoader.prototype, 'count');
  const counted = async (recipe: DataRecipe, cache: string, basis = BASIS): Promise<RecordShapes> =>
    opened(recipe, (data) => data.shapes({ basis, cache }));

  test('and taken again, unless something has changed or the file is broken', async () => {
    const cache = folder.at('cache');
    const recipe = dataRecipe([many]);
    const progress: [number, number][] = [];
    const first = await opened(recipe, (data) =>
      data.shapes({ basis: BASIS, cache, onProgress: (...each) => progress.push(each) }),
    );
    expect(progress.at(-1)).toEqual([23, 23]);
    count.mockClear();
    const again = await counted(recipe, cache);
    expect(count).not.toHaveBeenCalled();
    expect(again).toEqual(first);
    await counted(recipe, cache, 'another tokenizer');
    expect(count).toHaveBeenCalled();
    count.mockClear();
    await counted(dataRecipe([many], { data: { limit: 20 } }), cache);
    expect(count).toHaveBeenCalled();
    for (const name of await readdir(cache)) await writeFile(join(cache, name), 'short');
    count.mockClear();
    expect(await counted(recipe, cache)).toEqual(first);
    expect(count).toHaveBeenCalled();
  });

  test('a cache that cannot be written changes nothing', async () => {
    const cache = await folder.write('file', '');
    expect(await counted(dataRecipe([many]), join(cache, 'within'))).toBeDefined();
  });
});

test('what stops a run stops the counting, and a signal does', async () => {
  const recipe = dataRecipe([many], { text: { maxLength: 4, overlong: 'stop' } });
  await opened(recipe, async (data) => {
    await expect(data.shapes({ basis: BASIS })).rejects.toMatchObject({ code: 'E_OVERLONG' });
    const signal = AbortSignal.abort(new Error('enough'));
    await expect(data.shapes({ basis: BASIS, signal })).rejects.toThrow('enough');
  });
});
