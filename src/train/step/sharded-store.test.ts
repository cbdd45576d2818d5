import { afterEach, describe, expect, test, vi } from 'vitest';
import { generate } from '../../generate/index.js';
import {
  finish,
  drive,
  makeBatch,
  type Batch,
  type Llava,
  type Residency,
  type SegmentBase,
} from '../../models/index.js';
import { AdamW, Gate, schedule, type StateType } from '../../optim/index.js';
import { ProcessGroup, rendezvous, type World } from '../../parallel/index.js';
import { freePort } from '../../parallel/launch.js';
import { liveTensors, noGrad, type DType } from '../../torch/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { HostOptimizer } from './host-optimizer.js';
import { memoryPolicies, type MemoryPolicy } from './memory-policy.js';
import { Randomness } from './randomness.js';
import { openRankGroups } from './rank-groups.js';
import { RANK_NUMBERS } from './parameter-store.js';
import { ShardedModel, type Offload, type ShardUnit, type ZeroStage } from './sharded-model.js';
import { ShardedStore } from './sharded-store.js';
import { ShardedUpdateInBackward } from './sharded-update-in-backward.js';
import {
  ghostBatch,
  ghostLlava,
  tinyBatch,
  tinyLlava,
  tinySample,
  tinyTextBatch,
} from './testing.js';
import { UpdateInBackward } from './update-in-backward.js';
import { runUpdate, type UpdateSetup } from './update.js';

const open: { dispose(): void }[] = [];
const worlds: World[] = [];
afterEach(async () => {
  for (const item of open.splice(0).reverse()) item.dispose();
  for (const world of worlds.splice(0)) await world.close();
});

const TRAINS = {
  'all of it': () => true,
  'the projector': (name: string) => name.includes('projector'),
  'the decoder': (name: string) => name.includes('language_model'),
} as const;

interface Given extends Chosen {
  ranks: number;
  trains: keyof typeof TRAINS;
  tied?: boolean;
  dtype?: DType;
  /** Of a size at which padding does not count. */
  wide?: boolean;
}

interface Chosen {
  stage: ZeroStage;
  policy?: MemoryPolicy;
  reshardAfterForward?: boolean;
  shardOver?: number;
  master?: DType;
  offload?: Offload;
  reduction?: DType;
  updateInBackward?: boolean;
  states?: StateType;
}

/** One rank of so many, on meta, whose calls to the group are counted. */
async function ghostRank({ ranks, trains, tied = false, dtype, wide, ...more }: Given, place = 0) {
  const group = await ProcessGroup.fake(place, ranks);
  const model = ghostLlava({ tied, ...(dtype && { dtype }), ...(wide && { wide }) });
  for (const [name, parameter] of model.namedParameters()) {
    parameter.requiresGrad_(TRAINS[trains](name));
  }
  const subgroups = new Map<string, ProcessGroup>();
  const newGroup = async (name: string, members: readonly number[]) => {
    const subgroup = await ProcessGroup.fake(members.indexOf(place), members.length);
    subgroups.set(name, subgroup);
    return subgroup;
  };
  const world = { rank: place, size: ranks, group, newGroup };
  return { group, subgroups, ...(await rank(model, world, 'meta', more)) };
}

async function rank(
  model: Llava,
  world: Parameters<typeof openRankGroups>[0],
  device: 'cpu' | 'meta',
  { stage, policy = 'keep', shardOver, reshardAfterForward, ...more }: Chosen,
) {
  const parameters = new Map([...model.namedParameters()].filter(([, p]) => p.requiresGrad));
  const groups = [{ name: 'all', parameters, learningRate: 1e-2, weightDecay: 0.1 }];
  const ranks = await openRankGroups(world, { stage, shardOver });
  const { master, offload = 'none', reduction = 'float32', updateInBackward = false } = more;
  const { states = 'float32' } = more;
  const sharded = new ShardedModel(model, ranks.shards, { stage, master, offload });
  const settings = { eps: 1e-2, gradients: reduction };
  const host = offload === 'none' ? undefined : new HostOptimizer(sharded, groups, settings);
  const optimizer = host?.adamw ?? new AdamW(sharded.groupsOf(groups), { eps: 1e-2, states });
  const randomness = new Randomness(1);
  const gate = new Gate(device);
  const parts = { model: sharded, groups: ranks, stage, optimizer, gate, randomness, host };
  const Strategy = updateInBackward ? ShardedUpdateInBackward : ShardedStore;
  const store = new Strategy({ ...parts, reduction, reshardAfterForward });
  open.push(model, store);
  const setup: UpdateSetup = {
    ...{ model, store, randomness, device },
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ shape: 'constant', updates: 100 }),
  };
  return { setup, sharded, optimizer, store };
}

/** Elements that were handed to each kind of collective. */
function moved(group: ProcessGroup): Record<string, number> {
  const sums: Record<string, number> = {};
  for (const { kind, elements } of group.ledger.list()) {
    sums[kind] = (sums[kind] ?? 0) + elements;
  }
  return sums;
}

/** What ranks tell each other at the end of an update: what each brought, and the squared norm of each tensor. */
function numbersOf({ trained }: ShardedModel, ranks: number): number {
  return (RANK_NUMBERS.length + tensorsOf(trained)) * ranks;
}

const tensorsOf = (units: readonly ShardUnit[]): number =>
  units.reduce((sum, { buffer }) => sum + buffer.leaves.size, 0);

describe('elements handed to the collectives of one update', () => {
  const stages: readonly ZeroStage[] = [0, 1, 2, 3];
  const cases = stages.flatMap((stage) =>
    Object.keys(TRAINS).flatMap((trains) =>
      [1, 3].map((microBatches) => [stage, trains as keyof typeof TRAINS, microBatches] as const),
    ),
  );
  test.each(cases)('stage %i, %s, %i micro-batches', async (stage, trains, microBatches) => {
    const ranks = 4;
    const { group, setup, sharded } = await ghostRank({ stage, ranks, trains });
    // One of them has no pictures, one no records: the calls are the same.
    const three = [ghostBatch(tinyBatch()), ghostBatch(tinyTextBatch()), null];
    const { numbers } = await drive(runUpdate(setup, 0, three.slice(0, microBatches)));
    numbers.dispose();
    const elements = (units: readonly { buffer: { layout: { length: number } } }[]): number =>
      units.reduce((sum, { buffer }) => sum + buffer.layout.length, 0);
    const psi = elements(sharded.trained);
    const { segments, head } = setup.model;
    const first = segments.findIndex((segment) => sharded.unitsOf(segment).some((u) => u.trained));
    const visits = [...segments, head, ...(first < 0 ? [] : segments.slice(first))];
    const gathers = visits.reduce((sum, segment) => sum + elements(sharded.unitsOf(segment)), 0);
    const small = numbersOf(sharded, ranks);
    expect(moved(group)).toEqual(
      {
        0: { 'all-reduce': psi, 'all-gather': small },
        1: { 'reduce-scatter': psi, 'all-gather': psi + small },
        2: { 'reduce-scatter': psi * microBatches, 'all-gather': psi + small },
        3: { 'reduce-scatter': psi * microBatches, 'all-gather': gathers * microBatches + small },
      }[stage],
    );
  });

  test('with everything trained, stage 3 gathers each parameter twice and reduces it once', async () => {
    const { group, setup, sharded } = await ghostRank({ stage: 3, ranks: 2, trains: 'all of it' });
    (await drive(runUpdate(setup, 0, [ghostBatch(tinyBatch())]))).numbers.dispose();
    const psi = sharded.trained.reduce((sum, { buffer }) => sum + buffer.layout.length, 0);
    const { segments, head } = setup.model;
    const ofHead = sharded.unitsOf(head).reduce((sum, { buffer }) => sum + buffer.layout.length, 0);
    expect(segments.length).toBeGreaterThan(3);
    // The head's backward runs within its forward: it is gathered once.
    expect(moved(group)['all-gather']).toBe(2 * psi - ofHead + numbersOf(sharded, 2));
  });
});

test.each([1, 3])(
  'what stays gathered until its backward is gathered once in %i micro-batches',
  async (microBatches) => {
    const given = {
      stage: 3,
      ranks: 2,
      trains: 'the decoder',
      reshardAfterForward: false,
    } as const;
    const { group, setup, sharded } = await ghostRank(given);
    const batches = [tinyBatch(), tinyTextBatch(), tinyBatch(1)].map(ghostBatch);
    (await drive(runUpdate(setup, 0, batches.slice(0, microBatches)))).numbers.dispose();
    const elements = (segments: Iterable<SegmentBase>): number =>
      [...segments]
        .flatMap((segment) => sharded.unitsOf(segment))
        .reduce((sum, { buffer }) => sum + buffer.layout.length, 0);
    const { segments, head } = setup.model;
    // The frozen ones below have no backward, the head's runs within its forward.
    const once = elements(sharded.revisited);
    const each = elements([...segments, head]) - once;
    expect(once).toBeGreaterThan(0);
    expect(each).toBeGreaterThan(0);
    expect(moved(group)['all-gather']).toBe(once + microBatches * each + numbersOf(sharded, 2));
    for (const { buffer } of sharded.units) expect(buffer.whole.storageBytes).toBe(0);
  },
);

test.each([0, 1, 2, 3] as const)(
  'an update in the backward of stage %i moves as much, and a number for each tensor',
  async (stage) => {
    const given = { stage, ranks: 2, trains: 'all of it', updateInBackward: true } as const;
    const { group, subgroups, setup, sharded } = await ghostRank(given);
    (await drive(runUpdate(setup, 0, [ghostBatch(tinyBatch())]))).numbers.dispose();
    const psi = sharded.trained.reduce((sum, { buffer }) => sum + buffer.layout.length, 0);
    const ofHead = sharded.unitsOf(setup.model.head)[0]!.buffer.layout.length;
    const small = 2 * RANK_NUMBERS.length;
    const norms = 2 * tensorsOf(sharded.trained);
    expect(subgroups.size).toBe(0);
    expect(moved(group)).toEqual(
      {
        0: { 'all-reduce': psi, 'all-gather': small },
        1: { 'reduce-scatter': psi, 'all-gather': psi + norms + small },
        2: { 'reduce-scatter': psi, 'all-gather': psi + norms + small },
        3: { 'reduce-scatter': psi, 'all-gather': 2 * psi - ofHead + norms + small },
      }[stage],
    );
  },
);

test.each([1, 2, 3] as const)(
  'stage %i in a hybrid shards among neighbours and sums the slices of replicas',
  async (stage) => {
    const given = { stage, ranks: 6, trains: 'all of it', shardOver: 2 } as const;
    const { group, subgroups, setup, sharded } = await ghostRank(given);
    (await drive(runUpdate(setup, 0, [ghostBatch(tinyBatch())]))).numbers.dispose();
    const psi = sharded.trained.reduce((sum, { buffer }) => sum + buffer.layout.length, 0);
    const ofHead = sharded.unitsOf(setup.model.head)[0]!.buffer.layout.length;
    expect(subgroups.get('shards')!.size).toBe(2);
    expect(moved(subgroups.get('shards')!)).toEqual({
      'reduce-scatter': psi,
      'all-gather': stage === 3 ? 2 * psi - ofHead : psi,
    });
    expect(subgroups.get('replicas')!.size).toBe(3);
    expect(moved(subgroups.get('replicas')!)).toEqual({ 'all-reduce': psi / 2 });
    expect(moved(group)).toEqual({ 'all-gather': numbersOf(sharded, 6) });
  },
);

test('a number of neighbours that does not divide the ranks is refused', async () => {
  const world = { rank: 0, size: 6, group: await ProcessGroup.fake(0, 6), newGroup: vi.fn() };
  for (const shardOver of [0, 4, 1.5, 12]) {
    await expect(openRankGroups(world, { stage: 2, shardOver })).rejects.toMatchObject({
      code: 'E_SHARD_OVER',
    });
  }
});

test('the optimizer knows which elements of a parameter its pieces are', async () => {
  const pieces = await Promise.all(
    [0, 1, 2].map(async (place) => {
      const { optimizer } = await ghostRank({ stage: 2, ranks: 3, trains: 'all of it' }, place);
      const { parameters, from } = optimizer.groups[0]!;
      return [...parameters].map(([name, { numel }]) => ({ name, from: from!.get(name)!, numel }));
    }),
  );
  const reached = new Map<string, number>();
  for (const { name, from, numel } of pieces.flat()) {
    expect(from, name).toBe(reached.get(name) ?? 0);
    reached.set(name, from + numel);
  }
  const whole = ghostLlava().namedParameters();
  expect(reached).toEqual(new Map([...reached].map(([name]) => [name, whole.get(name)!.numel])));
  expect(pieces.flat().some(({ from }) => from > 0)).toBe(true);
});

/** Without padding, and without layers behind the one whose features are used. */
const trainedElements = ({ trained }: ShardedModel): number =>
  trained
    .flatMap(({ buffer }) => [...buffer.layout.stretches.values()])
    .reduce((sum, { length }) => sum + length, 0);

describe('bytes on one rank, against theory', () => {
  /** Per trained parameter, N ranks, bf16 weights with fp32 masters and moments; gradients of one micro-batch reduced in fp32. */
  const theory = (stage: ZeroStage, ranks: number) => {
    const N = stage === 0 ? 1 : ranks;
    return { weights: stage === 3 ? 0 : 2, gradients: 4 / N, optimizer: 12 / N };
  };
  const cases = ([0, 1, 2, 3] as const).flatMap((stage) =>
    [1, 2, 4].flatMap((ranks) =>
      [false, true].map((inBackward) => [stage, ranks, inBackward] as const),
    ),
  );
  test.each(cases)(
    'stage %i, %i ranks, in the backward: %s',
    async (stage, ranks, updateInBackward) => {
      const given = { stage, ranks, trains: 'all of it', dtype: 'bfloat16', wide: true } as const;
      const { sharded, store } = await ghostRank({
        ...given,
        master: 'float32',
        updateInBackward,
      });
      const psi = trainedElements(sharded);
      const { weights, gradients, optimizer } = theory(stage, ranks);
      const { device, host } = store.bytes(1);
      const expectNear = (actual: number, expected: number): void => {
        expect(Math.abs(actual - expected)).toBeLessThanOrEqual(0.03 * expected);
      };
      expectNear(device.weights, weights * psi);
      expectNear(device.gradients, updateInBackward ? 0 : gradients * psi);
      expectNear(device.optimizer, optimizer * psi);
      expect(host).toEqual({ weights: 0, gradients: 0, optimizer: 0 });
      // What is counted is what is there.
      const there = store.state().reduce((sum, { tensor }) => sum + tensor.bytes, 0);
      expect(device.optimizer).toBeGreaterThanOrEqual(there);
      expectNear(there, device.optimizer);
      expect(sharded.units.length).toBeGreaterThan(3);
    },
  );

  test.each([
    ['optimizer', 'float32', 2, 0],
    ['parameters', 'bfloat16', 0, 2],
  ] as const)('with the %s in host memory', async (offload, reduction, onDevice, onHost) => {
    const given = {
      stage: 3,
      ranks: 2,
      trains: 'all of it',
      dtype: 'bfloat16',
      wide: true,
    } as const;
    const { sharded, store } = await ghostRank({ ...given, offload, reduction });
    const psi = trainedElements(sharded) / 2;
    const { device, host } = store.bytes(1);
    // Beside masters and moments, the copy in bf16 on its way to a slice on the device.
    const gradients = reduction === 'float32' ? 4 : 2;
    const expected = [onDevice, 0, 0, onHost, gradients, offload === 'optimizer' ? 14 : 12];
    const counts = [device, host].flatMap((each) => [each.weights, each.gradients, each.optimizer]);
    counts.forEach((bytes, i) => {
      expect(Math.abs(bytes - expected[i]! * psi)).toBeLessThanOrEqual(0.03 * expected[i]! * psi);
    });
  });
});

describe.each([
  { stage: 0 },
  { stage: 1 },
  { stage: 2, shardOver: 2 },
  { stage: 3 },
  { stage: 3, shardOver: 2, master: 'float32' },
] as const)('parts of 4 ranks, %j', (how) => {
  const given = { ...how, ranks: 4, trains: 'the decoder', tied: true, dtype: 'bfloat16' } as const;
  test.each(['weights', 'state'] as const)('write all elements of the %s once', async (kind) => {
    const plain = ghostLlava({ tied: true });
    open.push(plain);
    const written = new Map<string, number[]>();
    const types = new Set<string>();
    for (let place = 0; place < 4; place++) {
      const { setup } = await ghostRank(given, place);
      for (const { name, shape, from, tensor, dtype, writes } of setup.store[kind]()) {
        const length = shape.reduce((product, each) => product * each, 1);
        const times = written.get(name) ?? new Array<number>(length).fill(0);
        expect([name, times.length]).toEqual([name, length]);
        expect(from + tensor.numel).toBeLessThanOrEqual(length);
        for (let i = 0; writes && i < tensor.numel; i++) times[from + i]!++;
        written.set(name, times);
        types.add(dtype ?? tensor.dtype);
      }
    }
    const names = [...plain.namedParameters().keys()];
    const states = ['master', 'exp_avg', 'exp_avg_sq', 'step'];
    const trained = names.filter(TRAINS[given.trains]);
    const expected =
      kind === 'weights' ? names : trained.flatMap((n) => states.map((each) => `${n}.${each}`));
    expect([...written.keys()].sort()).toEqual(expected.sort());
    expect([...written.values()].flat().every((times) => times === 1)).toBe(true);
    expect([...types]).toEqual([kind === 'weights' ? 'bfloat16' : 'float32']);
  });
});

/** This process as the only rank of a job. */
async function aloneWorld(): Promise<World> {
  const place = {
    rank: 0,
    worldSize: 1,
    localRank: 0,
    address: '127.0.0.1',
    port: await freePort(),
  };
  const world = await rendezvous({ backend: 'gloo', place: { ...place, launcher: 'torchrun' } });
  worlds.push(world);
  return world;
}

/** The store of one process, for the same work. */
function single(
  model: Llava,
  updateInBackward = false,
  states: StateType = 'float32',
): UpdateSetup {
  const parameters = new Map(model.namedParameters());
  const groups = [{ name: 'all', parameters, learningRate: 1e-2, weightDecay: 0.1 }];
  const randomness = new Randomness(1);
  const optimizer = new AdamW(groups, { eps: 1e-2, states });
  const Strategy = updateInBackward ? UpdateInBackward : AccumulatingStore;
  const store = new Strategy({ model, optimizer, gate: new Gate('cpu'), randomness });
  open.push(model, store);
  return {
    ...{ model, store, randomness },
    device: 'cpu',
    policies: memoryPolicies(model.segments, { policy: 'keep' }),
    schedule: schedule({ shape: 'constant', updates: 100 }),
  };
}

test('an update tells what each rank brought', async () => {
  const model = tinyLlava();
  for (const parameter of model.parameters()) parameter.requiresGrad_();
  const { setup } = await rank(model, await aloneWorld(), 'cpu', { stage: 2 });
  const good = (await drive(runUpdate(setup, 0, [tinyBatch()]))).numbers.read();
  const [loss, largest, nonFinite] = good.byRank;
  expect(loss).toBe(good.lossSum[0]);
  expect(largest).toBeGreaterThan(0);
  expect(largest).toBeLessThan(good.norm[0]! * tinyBatch().counts.supervised);
  expect(nonFinite).toBe(0);
  noGrad(() => model.namedParameters().get('model.language_model.norm.weight')!.fill_(NaN));
  const bad = (await drive(runUpdate(setup, 1, [tinyBatch()]))).numbers.read();
  expect(bad.foundInf[0]).toBe(1);
  expect(bad.byRank[0]).toBeNaN();
  expect(bad.byRank[2]).toBeGreaterThan(0);
});

const samples = [tinySample(1, 6), tinySample(2, 9, 1), tinySample(0, 7, 2)];
const batches = (model: Llava): (Batch | null)[] => [
  makeBatch(samples.slice(0, 2), model.input),
  null,
  makeBatch(samples.slice(2), model.input),
];

test.each([0, 1, 2, 3] as const)(
  'a world of one in stage %i is the store of one process, whatever the policy, and leaks nothing',
  async (stage) => {
    for (const policy of ['keep', 'recompute', 'offload'] as const) {
      const [plain, alone] = [tinyLlava({ tied: true }), tinyLlava({ tied: true })];
      for (const model of [plain, alone]) {
        for (const parameter of model.parameters()) parameter.requiresGrad_();
      }
      const world = await aloneWorld();
      const { setup } = await rank(alone, world, 'cpu', { stage, policy });
      const parts = single(plain);
      for (let update = 0; update < 2; update++) {
        const [a, b] = [batches(plain), batches(alone)];
        const expected = finish(runUpdate(parts, update, a)).numbers.read();
        const before = liveTensors();
        const actual = (await drive(runUpdate(setup, update, b))).numbers.read();
        // What other tests left behind may be collected meanwhile.
        expect(liveTensors()).toBeLessThanOrEqual(before);
        expect(actual.lossSum[0]! / expected.lossSum[0]!).toBeCloseTo(1, 5);
        expect(actual.norm[0]! / expected.norm[0]!).toBeCloseTo(1, 5);
      }
    }
  },
);

test.each([
  { stage: 1 },
  { stage: 3 },
  { stage: 3, reshardAfterForward: false },
  { stage: 3, offload: 'parameters' },
] as const)('a model of %o answers, also after an update, and nothing stays', async (chosen) => {
  const [plain, shared] = [tinyLlava({ tied: true }), tinyLlava({ tied: true })];
  for (const model of [plain, shared]) {
    for (const parameter of model.parameters()) parameter.requiresGrad_();
  }
  const { setup, sharded } = await rank(shared, await aloneWorld(), 'cpu', chosen);
  const parts = single(plain);
  const prompts = [samples[0]!, samples[2]!];
  const answers = async (model: Llava, residency?: Residency): Promise<string[]> => {
    const tokens = [];
    for await (const { prompt, token } of generate(model, prompts, { residency, maxNewTokens: 9 }))
      tokens.push(`${prompt}: ${token}`);
    return tokens;
  };
  const gathered = (): number =>
    sharded.units
      .filter(({ buffer }) => !buffer.resident)
      .reduce((sum, { buffer }) => sum + buffer.whole.storageBytes, 0);
  for (let update = 0; update < 2; update++) {
    const before = liveTensors();
    expect(await answers(shared, setup.store)).toEqual(await answers(plain));
    expect(liveTensors()).toBeLessThanOrEqual(before);
    expect(gathered()).toBe(0);
    finish(runUpdate(parts, update, [tinyBatch()])).numbers.dispose();
    (await drive(runUpdate(setup, update, [tinyBatch()]))).numbers.dispose();
  }
});

test('in bf16 the masters of stage 3 are its slices: the same numbers and state as with parameters beside masters', async () => {
  const world = await aloneWorld();
  const runs = await Promise.all(
    ([1, 3] as const).map(async (stage) => {
      const model = tinyLlava({ dtype: 'bfloat16' });
      for (const parameter of model.parameters()) parameter.requiresGrad_();
      const { setup, sharded } = await rank(model, world, 'cpu', { stage, master: 'float32' });
      const numbers = [];
      for (let update = 0; update < 3; update++) {
        const { numbers: late } = await drive(runUpdate(setup, update, [tinyBatch(update)]));
        const { lossSum, norm } = late.read();
        numbers.push(lossSum[0], norm[0]);
      }
      const state = setup.store
        .state()
        .map(({ name, tensor }) => [name, tensor.dtype, tensor.numel]);
      const slices = sharded.trained.map(({ buffer: { slice } }) => slice.dtype);
      return { numbers, slices: new Set(slices), state: state.map(String).toSorted() };
    }),
  );
  expect(runs[1]!.numbers).toEqual(runs[0]!.numbers);
  expect(runs[1]!.state).toEqual(runs[0]!.state);
  expect(runs.map(({ slices }) => [...slices])).toEqual([['bfloat16'], ['float32']]);
});

test.each(
  ([0, 1, 2, 3] as const).flatMap((stage) =>
    (['float32', 'int8'] as const).map((states) => [stage, states] as const),
  ),
)(
  'a world of one that updates in the backward of stage %i is one process that does, with moments in %s',
  async (stage, states) => {
    const world = await aloneWorld();
    const [plain, alone] = [tinyLlava({ tied: true }), tinyLlava({ tied: true })];
    for (const parameter of [plain, alone].flatMap((model) => model.parameters())) {
      parameter.requiresGrad_();
    }
    const one = single(plain, true, states);
    const chosen = { stage, states, updateInBackward: true };
    const { setup } = await rank(alone, world, 'cpu', chosen);
    for (const update of [0, 1, 2]) {
      const expected = await drive(runUpdate(one, update, [tinyBatch(update)]));
      const actual = await drive(runUpdate(setup, update, [tinyBatch(update)]));
      const [a, b] = [expected.numbers.read(), actual.numbers.read()];
      expect(b.lossSum[0]! / a.lossSum[0]!).toBeCloseTo(1, 5);
      expect(b.norm[0]! / a.norm[0]!).toBeCloseTo(1, 5);
      expect(b.foundInf).toEqual(new Float32Array(b.foundInf.length));
      expect([...actual.gates].length).toBe(b.foundInf.length);
      expect(actual.tensorNames.toSorted()).toEqual(expected.tensorNames.toSorted());
      expect(b.byRank[0]).toBe(b.lossSum[0]);
    }
  },
);

const OFFLOADS = ([0, 1, 2, 3] as const)
  .flatMap((stage) => [
    [stage, 'optimizer'] as const,
    ...(stage === 3 ? [[stage, 'parameters'] as const] : []),
  ])
  .flatMap(([stage, offload]) =>
    [false, true].map((inBackward) => [stage, offload, inBackward] as const),
  );

test.each(OFFLOADS)(
  'stage %i with the %s in host memory is the same training (in the backward: %s), and leaks nothing',
  async (stage, offload, updateInBackward) => {
    for (const [dtype, reduction] of [
      ['float32', 'float32'],
      ['bfloat16', 'float32'],
      ['bfloat16', 'bfloat16'],
    ] as const) {
      const world = await aloneWorld();
      const given = { reduction, updateInBackward };
      const [near, far] = [tinyLlava({ tied: true, dtype }), tinyLlava({ tied: true, dtype })];
      for (const parameter of [near, far].flatMap((model) => model.parameters())) {
        parameter.requiresGrad_();
      }
      const { setup: a } = await rank(near, world, 'cpu', { stage: 1, ...given });
      const { setup: b } = await rank(far, world, 'cpu', { stage, offload, ...given });
      for (const update of [0, 1, 2]) {
        const batch = update === 1 ? tinyTextBatch() : tinyBatch(update);
        const expected = (await drive(runUpdate(a, update, [batch]))).numbers.read();
        await b.store.settle();
        const before = liveTensors();
        const actual = (await drive(runUpdate(b, update, [batch]))).numbers.read();
        await b.store.settle();
        expect(liveTensors()).toBeLessThanOrEqual(before);
        expect([...actual.lossSum, ...actual.norm]).toEqual([
          ...expected.lossSum,
          ...expected.norm,
        ]);
      }
      expect(stateBytes(b.store)).toEqual(stateBytes(a.store));
    }
  },
);

/** The optimizer's state by name. */
function stateBytes(store: UpdateSetup['store']): ReadonlyMap<string, readonly number[]> {
  const state = store.state().map(({ name, tensor }) => [name, [...tensor.toBytes()]] as const);
  return new Map(state.toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

test('weights that were read are the masters in host memory', async () => {
  const model = tinyLlava();
  for (const parameter of model.parameters()) parameter.requiresGrad_();
  const world = await aloneWorld();
  const { setup } = await rank(model, world, 'cpu', { stage: 2, offload: 'optimizer' });
  for (const { tensor } of setup.store.weights()) noGrad(() => tensor.fill_(0.25));
  setup.store.weightsRead();
  (await drive(runUpdate(setup, 0, [tinyBatch()]))).numbers.dispose();
  await setup.store.settle();
  const [first] = model.parameters();
  // A learning rate of 0.01 moves nothing farther.
  expect(Math.abs(first!.mean(null).item() - 0.25)).toBeLessThan(0.02);
});

test('what is not finite leaves masters, moments and steps in host memory as they were', async () => {
  const model = tinyLlava();
  for (const parameter of model.parameters()) parameter.requiresGrad_();
  const { setup } = await rank(model, await aloneWorld(), 'cpu', {
    stage: 2,
    offload: 'optimizer',
  });
  (await drive(runUpdate(setup, 0, [tinyBatch()]))).numbers.dispose();
  await setup.store.settle();
  const before = stateBytes(setup.store);
  noGrad(() => model.namedParameters().get('model.language_model.norm.weight')!.fill_(NaN));
  const { foundInf } = (await drive(runUpdate(setup, 1, [tinyBatch()]))).numbers.read();
  await setup.store.settle();
  expect([...foundInf]).toEqual([1]);
  expect(stateBytes(setup.store)).toEqual(before);
});

test.each([0, 1, 2, 3] as const)(
  'an update in stage %i that is abandoned anywhere leaves nothing behind, and the next one is as if it had not been',
  async (stage) => {
    const world = await aloneWorld();
    const [once, again] = [tinyLlava({ tied: true }), tinyLlava({ tied: true })];
    for (const model of [once, again]) {
      for (const parameter of model.parameters()) parameter.requiresGrad_();
    }
    const { setup: straight } = await rank(once, world, 'cpu', { stage });
    const { setup: disturbed } = await rank(again, world, 'cpu', { stage });
    const [a, b] = [batches(once), batches(again)];
    const expected = (await drive(runUpdate(straight, 0, a))).numbers.read();
    const before = liveTensors();
    for (const stop of [1, 6, 13, 20]) {
      const steps = runUpdate(disturbed, 0, b);
      for (let i = 0; i < stop; i++) await steps.next().value;
      steps.return(undefined as never);
    }
    await world.group.barrier({ label: 'what was under way has ended' }).wait();
    expect(liveTensors()).toBeLessThanOrEqual(before);
    const actual = (await drive(runUpdate(disturbed, 0, b))).numbers.read();
    expect([...actual.lossSum, ...actual.norm]).toEqual([...expected.lossSum, ...expected.norm]);
  },
);
