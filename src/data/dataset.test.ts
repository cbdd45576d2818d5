import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { makeBatch } from '../models/batch.js';
import { scope } from '../torch/index.js';
import { openDataset, type Dataset, type DataRecipe, type UpdatesOptions } from './dataset.js';
import { normaliseTable } from './image/normalise.js';
import type { UpdateData } from './loading/batches.js';
import { dataRecipe, INPUT, record, TestFolder, TOKENIZER, type RecipeOptions } from './testing.js';

let folder: TestFolder;
beforeAll(async () => {
  folder = await TestFolder.make();
  for (let i = 0; i < 6; i++) await folder.writeImage(`images/${i}.png`, 40 * i);
  // Every third with an image; 4 and 9 cannot be used.
  const mixed = Array.from({ length: 14 }, (_, i) =>
    record(`a${i}`, 1 + ((i * 5) % 9), i % 3 === 0 ? `${i % 6}.png` : undefined),
  );
  mixed[4] = { id: 'a4', conversations: [] };
  mixed[9] = record('a9', 3, 'gone.png');
  await folder.writeLines('mixed.jsonl', mixed);
  await folder.write(
    'text.json',
    JSON.stringify(Array.from({ length: 9 }, (_, i) => record(`b${i}`, i))),
  );
});
afterAll(() => folder.remove());

const sources = (): Parameters<typeof dataRecipe>[0] => [
  { path: folder.at('mixed.jsonl'), images: folder.at('images') },
  { path: folder.at('text.json'), weight: 1.5 },
];
const SKIP: RecipeOptions = { data: { badRecords: 'skip' } };

function open(recipe: DataRecipe): Promise<Dataset> {
  return openDataset(recipe, { tokenizer: TOKENIZER, input: INPUT });
}

/** Updates as plain values to compare: all but the time. */
async function collect(
  dataset: Dataset,
  options: Partial<Extract<UpdatesOptions, { batchSize: number }>> = {},
): Promise<unknown[]> {
  const updates: unknown[] = [];
  for await (const update of dataset.updates({
    batchSize: 2,
    accumulate: 2,
    count: 12,
    ...options,
  })) {
    updates.push(plain(update));
  }
  return updates;
}

const plain = ({ waitedMs: _, shares: __, ...update }: UpdateData): unknown =>
  JSON.parse(JSON.stringify(update));

/** Ids of an epoch's samples. */
async function samples(dataset: Dataset): Promise<string[]> {
  const ids: string[] = [];
  const count = dataset.updatesPerEpoch({ batchSize: 4 });
  for await (const update of dataset.updates({ batchSize: 4, count })) {
    for (const { samples } of update.microBatches) ids.push(...samples.map(({ id }) => String(id)));
  }
  return ids;
}

describe('a dataset', () => {
  it('knows its records', async () => {
    const dataset = await open(dataRecipe(sources(), { ...SKIP, validation: { fraction: 0.25 } }));
    expect(dataset.sources).toMatchObject([
      { path: folder.at('mixed.jsonl'), records: 14, weight: 1 },
      { path: folder.at('text.json'), records: 9, weight: 1.5, files: [folder.at('text.json')] },
    ]);
    expect(dataset.validationRecords).toBe(6);
    expect(dataset.records).toBe(17);
    const [mixed, text] = dataset.sources.map(({ train }) => train);
    expect(dataset.recordsPerEpoch).toBe(mixed! + Math.round(1.5 * text!));
    expect(dataset.updatesPerEpoch({ batchSize: 2, accumulate: 2 })).toBe(
      Math.ceil(dataset.recordsPerEpoch / 4),
    );
    await dataset.close();
  });

  it('makes samples that a model takes', async () => {
    const dataset = await open(dataRecipe([sources()[0]!], { data: { shuffle: false, limit: 2 } }));
    const { value } = await dataset.updates({ batchSize: 2 }).next();
    const [first, second] = (value as UpdateData).microBatches[0]!.samples;
    expect(first!.images).toHaveLength(1);
    expect(first!.images[0]).toBeInstanceOf(Uint8Array);
    expect(first!.images[0]).toHaveLength(8 * 8 * 3);
    // 40 x 0 red in the middle, CLIP's colour where 12 x 10 pixels are padded to a square.
    const pixels = first!.images[0] as Uint8Array;
    expect([...pixels.subarray(3 * (8 * 4 + 4), 3 * (8 * 4 + 4) + 3)]).toEqual([0, 10, 20]);
    const imageTokens = first!.inputIds.filter((id) => id === INPUT.image!.tokenId);
    expect(imageTokens).toHaveLength(INPUT.image!.tokens);
    expect(first!.labels).toHaveLength(first!.inputIds.length);
    const { counts } = value as UpdateData;
    expect(counts).toMatchObject({ sequences: 2, images: 1, imageTokens: 4 });
    expect(counts.tokens).toBe(first!.inputIds.length + second!.inputIds.length);
    const learned = [first!, second!].flatMap(({ labels }) =>
      [...labels].filter((id) => id !== -100),
    );
    expect(counts.supervised).toBe(learned.length);
    expect(second!.place).toEqual({ file: folder.at('mixed.jsonl'), record: 2, line: 2 });
    const { truncated, ...batchCounts } = counts;
    const image = { ...INPUT.image!, normaliseTable: normaliseTable() };
    const normalised = { ...INPUT, image };
    scope(() => {
      const batch = makeBatch([first!, second!], normalised);
      expect(batch.counts).toEqual(batchCounts);
    });
    expect(truncated).toBe(0);
    await dataset.close();
  });

  it.each(['none', 'length', 'modality'] as const)(
    'is the same with any number of workers (grouping: %s)',
    async (grouping) => {
      const [inline, one, two] = await Promise.all(
        [0, 1, 2].map(async (workers) => {
          const recipe = dataRecipe(sources(), { data: { badRecords: 'skip', grouping, workers } });
          const dataset = await open(recipe);
          const updates = await collect(dataset);
          await dataset.close();
          return updates;
        }),
      );
      expect(inline).toHaveLength(12);
      expect(one).toEqual(inline);
      expect(two).toEqual(inline);
    },
  );

  it.each(['none', 'modality'] as const)(
    'goes on from any cursor to the bit (grouping: %s)',
    async (grouping) => {
      const dataset = await open(dataRecipe(sources(), { data: { badRecords: 'skip', grouping } }));
      const all = await collect(dataset);
      for (let done = 1; done < all.length; done++) {
        const { cursor } = all[done - 1] as UpdateData;
        const again = await open(dataRecipe(sources(), { data: { badRecords: 'skip', grouping } }));
        const rest = await collect(again, { from: cursor, count: all.length - done });
        expect(rest).toEqual(all.slice(done));
        await again.close();
      }
      await dataset.close();
    },
  );

  it('lists what it leaves out', async () => {
    const dataset = await open(dataRecipe(sources(), SKIP));
    const found: unknown[] = [];
    const count = dataset.updatesPerEpoch({ batchSize: 4 });
    for await (const { rejected } of dataset.updates({ batchSize: 4, count }))
      found.push(...rejected);
    const file = folder.at('mixed.jsonl');
    expect(found).toHaveLength(2);
    expect(found).toEqual(
      expect.arrayContaining([
        expect.objectContaining({ file, line: 5, id: 'a4', code: 'E_RECORD_TURNS', kind: 'bad' }),
        expect.objectContaining({ file, line: 10, id: 'a9', code: 'E_IMAGE_UNREADABLE' }),
      ]),
    );
    await dataset.close();
  });

  it('refuses a cursor of other data', async () => {
    const dataset = await open(dataRecipe(sources(), SKIP));
    const { value } = await dataset.updates({ batchSize: 2 }).next();
    await dataset.close();
    const others = [
      dataRecipe(sources(), { ...SKIP, seed: 8 }),
      dataRecipe([sources()[1]!, sources()[0]!], SKIP),
      dataRecipe(sources(), { data: { badRecords: 'skip', limit: 20 } }),
    ];
    for (const recipe of others) {
      const other = await open(recipe);
      expect(() => other.updates({ batchSize: 2, from: (value as UpdateData).cursor })).toThrow(
        expect.objectContaining({ code: 'E_CURSOR' }) as Error,
      );
      await other.close();
    }
  });

  it('knows data again by what they hold, wherever they lie', async () => {
    const records = Array.from({ length: 9 }, (_, i) => record(`c${i}`, i));
    const name = async (path: string, list: readonly unknown[]): Promise<DataRecipe> =>
      dataRecipe([await folder.writeLines(path, list)]);
    const dataset = await open(await name('here.jsonl', records));
    const { value } = await dataset.updates({ batchSize: 2 }).next();
    const from = (value as UpdateData).cursor;
    await dataset.close();

    const moved = await open(await name('there/moved.jsonl', records));
    const first = await moved.updates({ batchSize: 2, from }).next();
    expect((first.value as UpdateData).counts.sequences).toBe(2);
    await moved.close();
    // In its middle, of the same size.
    const changed = records.map((each, i) => (i === 4 ? record('c5', 4) : each));
    const other = await open(await name('here.jsonl', changed));
    expect(() => other.updates({ batchSize: 2, from })).toThrow(
      expect.objectContaining({
        code: 'E_CURSOR',
        message: expect.stringContaining('data files do not hold') as string,
        hint: expect.stringContaining('model.from') as string,
      }) as Error,
    );
    await other.close();
  });

  it('tells what is odd about records, from whichever thread', async () => {
    const conversations = [
      { from: 'gpt', value: 'x' },
      { from: 'human', value: 'q <|eot_id|>' },
      { from: 'gpt', value: 'a' },
    ];
    const path = await folder.writeLines('odd.jsonl', [
      record('fine'),
      { id: 'odd', conversations },
    ]);
    for (const workers of [0, 1]) {
      const dataset = await open(dataRecipe([path], { data: { shuffle: false, workers } }));
      const { value } = await dataset.updates({ batchSize: 2 }).next();
      const { samples } = (value as UpdateData).microBatches[0]!;
      expect(samples.map(({ warnings }) => warnings)).toEqual([
        undefined,
        ['leading-answer', 'special-tokens-as-text'],
      ]);
      await dataset.close();
    }
  });

  it('holds records out that are never trained on', async () => {
    const dataset = await open(dataRecipe(sources(), { ...SKIP, validation: { fraction: 0.3 } }));
    const held: string[] = [];
    for await (const { microBatches } of dataset.validation({ batchSize: 2 })) {
      for (const { samples } of microBatches) held.push(...samples.map(({ id }) => String(id)));
    }
    const trained = await samples(dataset);
    expect(held.length).toBeGreaterThan(3);
    expect(trained.filter((id) => held.includes(id))).toEqual([]);
    expect(new Set([...held, ...trained]).size).toBe(14 + 9 - 2);
    await dataset.close();
  });

  it('validates on sources of their own, in the order of their files, up to a limit', async () => {
    const recipe = dataRecipe([sources()[0]!], {
      ...SKIP,
      validation: { sources: [{ path: folder.at('text.json'), weight: 1 }], limit: 5 },
    });
    const dataset = await open(recipe);
    expect(dataset.validationRecords).toBe(5);
    for (const round of [1, 2]) {
      const held: unknown[] = [];
      for await (const { microBatches } of dataset.validation({
        batchSize: 2,
        accumulate: round,
      })) {
        held.push(...microBatches.flatMap(({ samples }) => samples.map(({ id }) => id)));
      }
      expect(held).toEqual(['b0', 'b1', 'b2', 'b3', 'b4']);
    }
    await dataset.close();
  });

  it('takes the first records of each source up to a limit', async () => {
    const limited = [{ ...(sources()[0] as object), limit: 4 }, sources()[1]!];
    const dataset = await open(dataRecipe(limited, { data: { limit: 9, badRecords: 'skip' } }));
    expect(dataset.sources.map(({ train }) => train)).toEqual([3, 6]);
    expect(new Set(await samples(dataset))).toEqual(
      new Set(['a0', 'a1', 'a2', 'b0', 'b1', 'b2', 'b3', 'b4', 'b5']),
    );
    await dataset.close();
  });

  it('gives records their system message unless they bring one', async () => {
    const own = {
      messages: [
        { role: 'system', content: 'Be kind.' },
        { role: 'user', content: 'Hi' },
        { role: 'assistant', content: 'Ho' },
      ],
    };
    const path = await folder.writeLines('system.jsonl', [
      own,
      { messages: own.messages.slice(1) },
    ]);
    const lengths = async (system?: string): Promise<number[]> => {
      const recipe = dataRecipe([path], { data: { shuffle: false } });
      const dataset = await open({ ...recipe, text: { ...recipe.text, system } });
      const { value } = await dataset.updates({ batchSize: 2 }).next();
      await dataset.close();
      return (value as UpdateData).microBatches[0]!.samples.map(({ inputIds }) => inputIds.length);
    };
    const [withOwn, without] = await lengths();
    expect(await lengths('Be kind.')).toEqual([withOwn, withOwn]);
    expect(without).toBeLessThan(withOwn!);
  });
});
