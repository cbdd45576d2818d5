/** A checkpoint does not depend on how many ranks have written it, nor on what each of them keeps. */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { checkRecipe } from '../../config/index.js';
import { bytePieces } from '../../models/index.js';
import { AdamW, Gate, hasSigns, isMoment, scalesOf, type StateType } from '../../optim/index.js';
import { ALONE, ProcessGroup, type Peers, type TensorPart } from '../../parallel/index.js';
import { peersInMemory } from '../../parallel/testing.js';
import {
  dtypeBytes,
  fromTypedArray,
  noGrad,
  RandomGenerator,
  scope,
  type DType,
} from '../../torch/index.js';
import { prepareTrainable } from '../prepare/trainable.js';
import { openRankGroups } from '../step/rank-groups.js';
import { Randomness } from '../step/randomness.js';
import { ShardedModel, type ZeroStage } from '../step/sharded-model.js';
import { ShardedStore } from '../step/sharded-store.js';
import { tinyLlava } from '../step/testing.js';
import { writeCheckpoint } from './checkpoints.js';
import { TrainedWeights } from './trained-weights.js';
import {
  optimizerTensors,
  readTrainerState,
  stateParts,
  writeTrainerState,
  type RestoredState,
  type TrainerCounters,
} from './trainer-state.js';
import { writeParts } from './write-parts.js';

let folder: string;
const open: { dispose(): void }[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-resume-'));
});
afterEach(() => {
  rmSync(folder, { recursive: true });
  for (const item of open.splice(0).reverse()) item.dispose();
});

interface World {
  readonly ranks: number;
  readonly stage: ZeroStage;
  readonly shardOver?: number;
  /** Type in which what trains is kept in stage 3. */
  readonly master?: DType;
}

const TRAIN = {
  'all of it': { vision: 'full', projector: 'full', decoder: 'full' },
  LoRA: { vision: 'frozen', projector: 'full', decoder: { lora: { rank: 2, alpha: 4 } } },
} as const;

interface Rank {
  readonly peers: Peers;
  readonly store: ShardedStore;
  readonly weights: TrainedWeights;
}

/** The ranks of a world, as they are before the first update. */
function makeRanks(
  world: World,
  trains: keyof typeof TRAIN,
  dtype: DType,
  states: StateType = 'float32',
): Promise<Rank[]> {
  return Promise.all(
    peersInMemory(world.ranks).map(async (peers) => {
      const { rank, size } = peers;
      const model = tinyLlava({ dtype, tied: true, seed: 10 });
      const recipe = checkRecipe({
        ...{ name: 'test', model: { from: 'x' }, data: { sources: ['x'] } },
        ...{ train: TRAIN[trains], optimizer: { learningRate: 1e-3 } },
      });
      const generator = RandomGenerator.create(3);
      const trainable = prepareTrainable(model, { ...recipe, dtype, device: 'cpu', generator });
      const groups = await openRankGroups(
        {
          ...{ rank, size },
          group: await ProcessGroup.fake(rank, size),
          newGroup: (_, members) => ProcessGroup.fake(members.indexOf(rank), members.length),
        },
        world,
      );
      const sharded = new ShardedModel(model, groups.shards, world);
      // In 8 bits all of them, however small.
      const all = trainable.groups.map((each) => ({ ...each, notInt8: new Set<string>() }));
      const optimizer = new AdamW(sharded.groupsOf(all), { states });
      const randomness = new Randomness(1);
      const store = new ShardedStore({
        ...{ model: sharded, groups, optimizer, randomness, stage: world.stage },
        gate: new Gate('cpu'),
      });
      open.push(model, store, generator);
      return { peers, store, weights: new TrainedWeights({ model, trainable }) };
    }),
  );
}

/** Gives every element a value of its own, which follows from the name and the place alone. */
function fill(parts: readonly TensorPart[]): void {
  for (const { name, from, tensor } of parts) {
    const seed = Buffer.from(name).reduce((sum, byte) => (31 * sum + byte) % 9973, 7);
    const isCode = tensor.dtype === 'uint8';
    const values = Float32Array.from({ length: tensor.numel }, (_, i) => {
      const value = Math.sin(seed + from + i);
      return isCode ? Math.floor(128 + 127 * value) : value;
    });
    noGrad(() => tensor.copy_(fromTypedArray(values, tensor.shape, 'float32')));
  }
}

const COUNTERS = {
  ...{ update: 3, cursor: null, skipped: 0, badRecords: 0, warnings: {} },
  plan: { planned: 5 },
  validation: { best: null, since: 0 },
} as unknown as TrainerCounters;

async function save(ranks: readonly Rank[], update: number): Promise<string> {
  const made = await Promise.all(
    ranks.map(({ peers, store, weights }) =>
      writeCheckpoint(folder, {
        ...{ update, peers },
        write: async (temporary) => {
          await weights.write(temporary, weights.partsOf(store.weights()), peers);
          await writeTrainerState(temporary, stateParts({ store }, peers), COUNTERS, peers);
        },
      }),
    ),
  );
  return made[0]!.path;
}

function filesOf(path: string): Record<string, string> {
  const names = readdirSync(path).filter((name) => name !== 'manifest.json');
  return Object.fromEntries(names.map((f) => [f, readFileSync(join(path, f), 'base64')]));
}

/** The bytes of all elements as the ranks have them, by name; every replica of an element is the same. */
function gathered(ranks: readonly Rank[], kind: 'weights' | 'state'): Map<string, Buffer> {
  const whole = new Map<string, Buffer>();
  const seen = new Set<string>();
  for (const { name, shape, from, ...part } of ranks.flatMap(({ store }) => store[kind]())) {
    const { tensor, dtype = tensor.dtype } = part;
    const bytes = Buffer.concat([...bytePieces(tensor, { dtype })]);
    const size = dtypeBytes(dtype);
    const all = whole.get(name) ?? Buffer.alloc(shape.reduce((a, b) => a * b, size));
    whole.set(name, all);
    const place = all.subarray(from * size, from * size + bytes.length);
    if (seen.has(`${name} ${from}`)) expect(place.equals(bytes)).toBe(true);
    seen.add(`${name} ${from}`);
    place.set(bytes);
  }
  return whole;
}

const WORLDS: readonly World[] = [
  { ranks: 1, stage: 3 },
  { ranks: 2, stage: 0 },
  { ranks: 2, stage: 3 },
  { ranks: 3, stage: 1 },
  { ranks: 4, stage: 2, shardOver: 2 },
  { ranks: 4, stage: 3, shardOver: 2, master: 'float32' },
];

test.each(
  WORLDS.flatMap((world) =>
    (['all of it', 'LoRA'] as const).flatMap((trains) =>
      (
        [
          ['float32', 'float32'],
          ['bfloat16', 'float32'],
          ['bfloat16', 'int8'],
        ] as const
      ).map(([dtype, states]) => [world, trains, dtype, states] as const),
    ),
  ),
)('%j, %s in %s, moments in %s: written as by one, and read by any', async (world, ...how) => {
  const alone = await makeRanks({ ranks: 1, stage: 0 }, ...how);
  const ranks = await makeRanks(world, ...how);
  fillAll([...alone, ...ranks]);
  const one = await save(alone, 1);
  expect(filesOf(await save(ranks, 2))).toEqual(filesOf(one));

  const other = WORLDS[(WORLDS.indexOf(world) + 1) % WORLDS.length]!;
  const readers = await makeRanks(other, ...how);
  const counters = await readAll(readers, one);
  expect(counters[0]).toMatchObject({ ...COUNTERS, converted: [] });
  const [state, expected] = [gathered(readers, 'state'), gathered(alone, 'state')];
  expect([...state.keys()].sort()).toEqual([...expected.keys()].sort());
  for (const [name, bytes] of state) expect(bytes.equals(expected.get(name)!)).toBe(true);
  const [read, written] = [gathered(readers, 'weights'), gathered(alone, 'weights')];
  const stored = alone[0]!.weights.contents.tensors;
  expect(stored.length).toBeGreaterThan(10);
  for (const { parameter } of stored) {
    expect(read.get(parameter)!.equals(written.get(parameter)!)).toBe(true);
  }
});

function fillAll(ranks: readonly Rank[]): void {
  for (const { store } of ranks) {
    const parts = [...store.weights(), ...store.state()];
    // Where a slice is its own master, its weights are those of the master.
    fill(parts.map((part) => ({ ...part, name: part.name.replace(/\.master$/, '') })));
  }
}

function readAll(readers: readonly Rank[], path: string): Promise<RestoredState[]> {
  return Promise.all(
    readers.map(async ({ peers, store, weights }) => {
      await weights.read(path, store.weights());
      return readTrainerState(path, stateParts({ store }, peers), peers);
    }),
  );
}

const NAMES = { float32: 'fp32', bfloat16: 'bf16', int8: '8 bits' } as const;
type Kept = keyof typeof NAMES;

test.each<[World, Kept, Kept]>([
  [{ ranks: 1, stage: 0 }, 'float32', 'int8'],
  [{ ranks: 2, stage: 3 }, 'int8', 'float32'],
  [{ ranks: 3, stage: 1 }, 'bfloat16', 'int8'],
  [{ ranks: 4, stage: 2, shardOver: 2 }, 'float32', 'bfloat16'],
  [{ ranks: 4, stage: 3, shardOver: 2, master: 'float32' }, 'int8', 'bfloat16'],
])('%j: moments that were kept in %s go on in %s, which is said', async (world, was, is) => {
  const alone = await makeRanks({ ranks: 1, stage: 0 }, 'all of it', 'bfloat16', was);
  fillAll(alone);
  const path = await save(alone, 1);
  const readers = await makeRanks(world, 'all of it', 'bfloat16', is);
  const moments = alone[0]!.store.state().filter(({ name }) => isMoment(name));
  for (const { converted } of await readAll(readers, path)) {
    expect(converted).toEqual([
      `Adam's moments were kept in ${NAMES[was]}, and go on in ${NAMES[is]} (${moments.length} tensors)`,
    ]);
  }
  const before = new Map(alone[0]!.store.state().map(({ name, tensor }) => [name, tensor]));
  const state = gathered(readers, 'state');
  for (const { name, tensor } of moments) {
    noGrad(() =>
      scope(() => {
        const scales = before.get(scalesOf(name));
        const values = scales
          ? tensor.dynamicDequantise(scales, hasSigns(name))
          : tensor.to('float32');
        const expected =
          is === 'int8' ? values.dynamicQuantise(hasSigns(name)) : ([values.to(is)] as const);
        const bytes = Buffer.from(expected[0].toBytes());
        expect(state.get(name)!.equals(bytes), name).toBe(true);
        if (expected[1] === undefined) return;
        expect(state.get(scalesOf(name))!.equals(Buffer.from(expected[1].toBytes()))).toBe(true);
      }),
    );
  }
  for (const [name, tensor] of before) {
    if (!/step|master/.test(name)) continue;
    expect(state.get(name)!.equals(Buffer.from(tensor.toBytes())), name).toBe(true);
  }
});

test('codes whose scales are missing are refused', async () => {
  const [{ peers, store }] = (await makeRanks(
    { ranks: 1, stage: 0 },
    'LoRA',
    'float32',
    'int8',
  )) as [Rank];
  const parts = stateParts({ store }, ALONE);
  const without = parts.filter(({ name }) => !name.endsWith('lora_A.weight.exp_avg.absmax'));
  await writeTrainerState(folder, without, COUNTERS, ALONE);
  await expect(readTrainerState(folder, parts, peers)).rejects.toMatchObject({
    code: 'E_CHECKPOINT_TENSORS',
    message: expect.stringMatching(/lora_A\.weight\.exp_avg\.absmax is missing/) as string,
  });
});

test('a large state lies in several files, which are read as one', async () => {
  const [{ store }] = (await makeRanks({ ranks: 1, stage: 0 }, 'LoRA', 'float32')) as [Rank];
  const parts = stateParts({ store }, ALONE);
  await writeParts(folder, { stem: 'optimizer', parts, shardBytes: 2000 }, ALONE);
  expect(readdirSync(folder)).toContain('optimizer.safetensors.index.json');
  expect((await optimizerTensors(folder)).map(({ name }) => name).sort()).toEqual(
    parts.map(({ name }) => name).sort(),
  );
});

test('a state that is not of the recipe is refused on every rank', async () => {
  const [writer] = (await makeRanks({ ranks: 1, stage: 0 }, 'LoRA', 'float32')) as [Rank];
  const path = await save([writer], 1);
  const readers = await makeRanks({ ranks: 2, stage: 3 }, 'all of it', 'float32');
  const read = await Promise.allSettled(
    readers.map(({ peers, store }) => readTrainerState(path, stateParts({ store }, peers), peers)),
  );
  for (const result of read) {
    expect(result).toMatchObject({ reason: { code: 'E_CHECKPOINT_TENSORS', exitCode: 4 } });
  }
});
