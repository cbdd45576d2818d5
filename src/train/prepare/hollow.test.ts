/** A model of which each rank reads its slices alone has the very values of one that is read as a whole. */
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import { checkRecipe, type RecipeInput } from '../../config/index.js';
import { bytePieces } from '../../models/index.js';
import { ProcessGroup, type TensorPart } from '../../parallel/index.js';
import {
  cudaAvailable,
  dtypeBytes,
  memoryStats,
  RandomGenerator,
  resetPeak,
  type Device,
  type DType,
} from '../../torch/index.js';
import { takeFrozen } from '../checkpoint/frozen-parts.js';
import { openRankGroups, type RankGroups } from '../step/rank-groups.js';
import { ColourFolder, TINY_CONFIG } from '../testing-files.js';
import { train } from '../train.js';
import { openModel } from './open-model.js';
import { shardModel } from './shard-model.js';
import { prepareTrainable } from './trainable.js';

let folder: ColourFolder;
const open: { dispose(): void }[] = [];
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterEach(() => {
  for (const item of open.splice(0).reverse()) item.dispose();
});
afterAll(() => folder.remove());

/** The checkpoint after one update. */
async function checkpoint(more: Partial<RecipeInput>): Promise<string> {
  for await (const event of train(folder.recipe(more), { maxUpdates: 1 })) {
    if (event.type === 'end') return event.checkpoint!;
  }
  throw new Error('the run had no end');
}

const fakeGroups = async (rank: number, size: number): Promise<RankGroups> =>
  openRankGroups(
    {
      ...{ rank, size },
      group: await ProcessGroup.fake(rank, size),
      newGroup: (_, members) => ProcessGroup.fake(members.indexOf(rank), members.length),
    },
    { stage: 3 },
  );

interface Place {
  readonly rank: number;
  readonly size: number;
  /** A checkpoint whose frozen parts are taken. */
  readonly from?: string | undefined;
  /** @default cpu */
  readonly device?: Device;
}

/** The parts of one rank of so many, or the whole model of a process alone. */
async function partsOf(
  input: RecipeInput,
  dtype: DType,
  { rank, size, from, device = 'cpu' }: Place,
): Promise<readonly TensorPart[]> {
  const groups = size === 1 ? null : await fakeGroups(rank, size);
  const recipe = checkRecipe({
    ...input,
    parallel: { ...(groups !== null && { ...input.parallel, zero: 3 }) },
  });
  const hollow = groups !== null;
  const { model, sources } = await openModel(recipe, { device, dtype, hollow });
  open.push(model);
  const { seed, parallel } = recipe;
  if (from !== undefined) {
    await takeFrozen(model, from, { train: recipe.train, seed, device, dtype, sources });
  }
  const generator = RandomGenerator.create(seed, device);
  open.push(generator);
  const chosen = prepareTrainable(model, {
    ...{ ...recipe, dtype, device, generator },
    sources: sources && { from: sources, seed },
  });
  if (hollow) {
    expect(model.parameters().filter((tensor) => tensor.device !== 'meta')).toEqual([]);
  }
  const precision = { master: 'float32', states: 'float32' } as const;
  const { sharding } = await shardModel(model, chosen, {
    ...{ groups, parallel, precision, device, sources },
  });
  if (sharding === null) {
    return [...model.namedParameters()].map(([name, tensor]) => {
      return { name, shape: tensor.shape, from: 0, tensor, writes: true };
    });
  }
  open.push(sharding.model);
  return sharding.model.parts(groups!);
}

const bytesOf = ({ tensor, dtype = tensor.dtype }: TensorPart): Buffer =>
  Buffer.concat([...bytePieces(tensor, { dtype })]);

async function expectSame(
  input: RecipeInput,
  dtype: DType,
  place: Omit<Place, 'rank' | 'size'> = {},
): Promise<void> {
  const whole = new Map(
    (await partsOf(input, dtype, { rank: 0, size: 1, ...place })).map((part) => [
      part.name,
      bytesOf(part),
    ]),
  );
  const seen = new Map<string, number>();
  for (let rank = 0; rank < 3; rank++) {
    const parts = await partsOf(input, dtype, { rank, size: 3, ...place });
    for (const part of parts) {
      const size = dtypeBytes(part.dtype ?? part.tensor.dtype);
      const own = bytesOf(part);
      const at = part.from * size;
      const same = own.equals(whole.get(part.name)!.subarray(at, at + own.length));
      expect([part.name, part.from, same]).toEqual([part.name, part.from, true]);
      if (part.writes) seen.set(part.name, (seen.get(part.name) ?? 0) + own.length);
    }
  }
  expect([...seen].sort()).toEqual([...whole].map(([name, { length }]) => [name, length]).sort());
}

const byLora = (lora: object) =>
  ({ vision: 'frozen', projector: 'full', decoder: { lora } }) as const;

describe.each(['float32', 'bfloat16'] as const)('slices in %s', (dtype) => {
  let from: string;
  let adapter: string;
  let model: RecipeInput['model'];
  beforeAll(async () => {
    from = await checkpoint({});
    model = { from, tokenizer: folder.at('tokenizer') };
    const train = {
      vision: 'frozen',
      projector: 'frozen',
      decoder: { lora: { rank: 2 } },
    } as const;
    adapter = await checkpoint({ model, train });
  });

  test('of a whole model', () => expectSame(folder.recipe({ model }), dtype));

  test('beside new adapters, plain and DoRA', async () => {
    await expectSame(folder.recipe({ model, train: byLora({ rank: 2 }) }), dtype);
    await expectSame(folder.recipe({ model, train: byLora({ rank: 2, dora: true }) }), dtype);
  });

  test('of a new model', () =>
    expectSame(
      folder.recipe({ model: { config: TINY_CONFIG, tokenizer: folder.at('tokenizer') } }),
      dtype,
    ));

  test('of a decoder and a tower with a new projector', () =>
    expectSame(
      folder.recipe({
        model: { llm: from, vision: from, tokenizer: folder.at('tokenizer') },
        train: { vision: 'frozen', projector: 'full', decoder: 'frozen' },
      }),
      dtype,
    ));

  test('of an adapter that goes on, and of one that is folded in', async () => {
    const with_ = { ...model, adapter };
    await expectSame(folder.recipe({ model: with_, train: byLora({ rank: 4 }) }), dtype);
    const train = { vision: 'frozen', projector: 'frozen', decoder: 'full' } as const;
    await expectSame(folder.recipe({ model: with_, train }), dtype);
  });
});

test.each(['none', 'optimizer', 'parameters'] as const)(
  'of a new model where %s is in host memory',
  async (offload) => {
    const model = { config: TINY_CONFIG, tokenizer: folder.at('tokenizer') };
    const device = cudaAvailable() ? 'cuda:0' : 'cpu';
    await expectSame(folder.recipe({ model, parallel: { offload } }), 'float32', { device });
  },
);

test('no rank ever holds half of the model', async () => {
  const text_config = { ...TINY_CONFIG.text_config, num_hidden_layers: 16, hidden_size: 64 };
  const tokenizer = folder.at('tokenizer');
  const from = await checkpoint({ model: { config: { ...TINY_CONFIG, text_config }, tokenizer } });
  const input = folder.recipe({ model: { from, tokenizer } });
  const bytes = (parts: readonly TensorPart[]): number =>
    parts.reduce((sum, { tensor }) => sum + tensor.bytes, 0);
  const whole = bytes(await partsOf(input, 'float32', { rank: 0, size: 1 }));
  for (const item of open.splice(0).reverse()) item.dispose();
  resetPeak('cpu');
  const before = memoryStats('cpu').allocated;
  const own = bytes(await partsOf(input, 'float32', { rank: 1, size: 4 }));
  const peak = memoryStats('cpu').peakAllocated - before;
  expect(own).toBeLessThan(0.3 * whole);
  expect(peak).toBeGreaterThan(own / 2);
  expect(peak).toBeLessThan(whole / 2);
});

test('what a checkpoint holds of parts that no longer train is read by slices', async () => {
  const model = { config: TINY_CONFIG, tokenizer: folder.at('tokenizer') };
  const whole = await checkpoint({ model });
  const frozen = { vision: 'frozen', projector: 'full', decoder: 'frozen' } as const;
  await expectSame(folder.recipe({ model, train: frozen }), 'float32', { from: whole });
});
