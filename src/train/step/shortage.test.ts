/** An update of one of two ranks, wherever in it memory runs out: it makes all calls that the other rank waits for, or it ends. */

import { afterEach, expect, test, vi } from 'vitest';
import { OutOfMemoryError } from '../../base/errors.js';
import { drive, makeBatch } from '../../models/index.js';
import { AdamW, Gate, schedule } from '../../optim/index.js';
import { ProcessGroup } from '../../parallel/index.js';
import {
  liveTensors,
  memoryStats,
  noGrad,
  resetPeak,
  setMemoryLimit,
  type Tensor,
} from '../../torch/index.js';
import { memoryPolicies, type MemoryPolicy } from './memory-policy.js';
import { ofRanks } from './parameter-store.js';
import { Randomness } from './randomness.js';
import { openRankGroups } from './rank-groups.js';
import { ShardedModel, type ZeroStage } from './sharded-model.js';
import { ShardedStore } from './sharded-store.js';
import { Shortage } from './shortage.js';
import { tinyLlava, tinySample } from './testing.js';
import { runUpdate, type UpdateSetup } from './update.js';

const open: { dispose(): void }[] = [];
afterEach(() => {
  setMemoryLimit('cpu', null);
  vi.restoreAllMocks();
  for (const each of open.splice(0).reverse()) each.dispose();
});

interface Given {
  readonly stage: ZeroStage;
  readonly policy: MemoryPolicy;
}

/** One rank of two, whose calls are written down; the other one brings the same numbers of an update. */
async function makeRank({ stage, policy }: Given) {
  const group = await ProcessGroup.fake(1, 2, 'cpu');
  const calls: string[] = [];
  for (const kind of ['allReduce', 'allGather', 'reduceScatter'] as const) {
    const original = group[kind].bind(group) as (...args: unknown[]) => never;
    vi.spyOn(group, kind).mockImplementation((...args: unknown[]) => {
      const [into, from] = args as [Tensor, Tensor];
      const { label } = args.at(-1) as { label: string };
      calls.push(`${kind} of ${into.numel} for ${label}`);
      if (label === 'numbers of the update') noGrad(() => into.copy_(from));
      return original(...args);
    });
  }
  const newGroup = () => Promise.reject(new Error('two ranks have one group'));
  const groups = await openRankGroups({ rank: 1, size: 2, group, newGroup }, { stage });
  const model = tinyLlava();
  const parameters = model.namedParameters();
  for (const parameter of parameters.values()) parameter.requiresGrad_(true);
  const sharded = new ShardedModel(model, groups.shards, { stage });
  const all = [{ name: 'all', parameters, learningRate: 1e-2, weightDecay: 0.1 }];
  const optimizer = new AdamW(sharded.groupsOf(all), {});
  const [shortage, gate, randomness] = [new Shortage(), new Gate('cpu'), new Randomness(1)];
  const parts = { model: sharded, groups, stage, optimizer, gate, randomness, shortage };
  const store = new ShardedStore(parts);
  open.push(model, store);
  const setup: UpdateSetup = {
    ...{ model, store, randomness, shortage, device: 'cpu' },
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ shape: 'constant', updates: 100 }),
  };
  const records = [tinySample(1, 60, 1), tinySample(0, 50, 2), tinySample(2, 60, 3)];
  const batches = records.map((each) => makeBatch([each], model.input));
  const update = async () => {
    calls.length = 0;
    shortage.begin();
    const { numbers } = await drive(runUpdate(setup, 0, batches));
    await store.settle();
    const { byRank, foundInf } = numbers.read();
    return { ranOut: ofRanks(byRank, 'ranOut')[1], foundInf: foundInf[0] };
  };
  await update();
  const whole = [...calls];
  const { allocated: lasting } = memoryStats('cpu');
  resetPeak('cpu');
  await update();
  return { update, calls, whole, lasting, peak: memoryStats('cpu').peakAllocated };
}

const STEPS = 24;

test.each<Given>([
  { stage: 0, policy: 'keep' },
  { stage: 1, policy: 'recompute' },
  { stage: 2, policy: 'offload' },
  { stage: 3, policy: 'keep' },
  { stage: 3, policy: 'recompute' },
])(
  '%o',
  async (given) => {
    let rank = await makeRank(given);
    let [ended, gone] = [0, 0];
    for (let share = 0; share <= STEPS; share++) {
      const { update, calls, whole, lasting, peak } = rank;
      const live = liveTensors();
      const limit = lasting + Math.floor((share / STEPS) * (peak - lasting));
      setMemoryLimit('cpu', limit);
      const outcome = await update().catch((error: unknown) => error);
      setMemoryLimit('cpu', null);
      if (outcome instanceof Error) {
        expect(outcome).toBeInstanceOf(OutOfMemoryError);
        expect(whole.slice(0, calls.length)).toEqual(calls);
        expect(gone).toBe(0); // more memory is never worse
        ended++;
        rank = await makeRank(given);
      } else {
        expect(calls).toEqual(whole);
        if (limit < peak) expect(outcome).toEqual({ ranOut: 1, foundInf: 1 });
        else expect(outcome).toMatchObject({ ranOut: 0 });
        // Fewer where the collector has met a rank that ended.
        expect(liveTensors()).toBeLessThanOrEqual(live);
        gone++;
      }
    }
    expect(ended).toBeGreaterThan(0);
    expect(gone).toBeGreaterThan(STEPS / 4);
  },
  60_000,
);
