/**
 * Tokens per second and peak memory of updates on the LLaVA-Llama-3-8B shape with random bf16 weights, shared out over the GPUs of
 * one machine; `bench/gpu/ranks.sh` runs the peers beside it. Each case is a start of its ranks:
 *
 *     node dist/bench/ranks.js "train=full states=fp32 zero=3 policies=recompute,keep" "ranks=1 zero=none rows=4" ...
 *
 * ranks     processes, one a GPU (2)                      train     full (all but the tower) | lora (r 16, and the projector)
 * zero      0 | 1 | 2 | 3 | none: one process (3)         states    fp32 (masters and moments) | bf16 (weights and moments)
 * policies  recompute,keep: each a row (recompute)        reduction float32 | bfloat16 (float32 where states are fp32)
 * products  the last decoder blocks that keep that level, whatever the policy of the others (0)
 * rows      sequences of an update on all ranks (8)       micro     sequences of a micro-batch (4)
 * reshard   0: gathered once a micro-batch (1)            offload   none | optimizer | parameters (none)
 * clip      norm to clip to (none)                        backward  1: update in backward (0)
 * limit     GiB a card may allocate (all)                 steps, layers, hidden, tokens (7, 32, 4096, 2048)
 *
 * As the trainer does, an update's numbers are read when the next one is queued, so that the device always has work; the first two of a row are not timed.
 */

import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { checkRecipe } from '../src/config/index.js';
import { drive, Llava, makeBatch } from '../src/models/index.js';
import { kernelsFor } from '../src/nn/index.js';
import { AdamW, Gate, schedule } from '../src/optim/index.js';
import { launchRanks, rendezvous, type World } from '../src/parallel/index.js';
import {
  busyTime,
  emptyCache,
  hold,
  memoryStats,
  noGrad,
  RandomGenerator,
  resetPeak,
  setMemoryLimit,
  synchronize,
  startProfile,
  tensor,
  type Activity,
  type DType,
} from '../src/torch/index.js';
import { prepareTrainable } from '../src/train/prepare/trainable.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { sliceType } from '../src/train/step/gradient-reducer.js';
import { HostOptimizer } from '../src/train/step/host-optimizer.js';
import { memoryPolicies, type MemoryPolicy } from '../src/train/step/memory-policy.js';
import type { ParameterStore } from '../src/train/step/parameter-store.js';
import { Randomness } from '../src/train/step/randomness.js';
import { openRankGroups } from '../src/train/step/rank-groups.js';
import { ShardedModel, type Offload, type ZeroStage } from '../src/train/step/sharded-model.js';
import { ShardedStore } from '../src/train/step/sharded-store.js';
import { ShardedUpdateInBackward } from '../src/train/step/sharded-update-in-backward.js';
import { factsOf, runUpdate, type UpdateResult } from '../src/train/step/update.js';
import { llava8b, sample } from './shapes.js';

const DEFAULTS = {
  ...{ ranks: '2', train: 'full', zero: '3', states: 'fp32', policies: 'recompute', reduction: '' },
  products: '0',
  ...{ rows: '8', micro: '4', reshard: '1', offload: 'none', clip: '', backward: '0', limit: '' },
  ...{ steps: '7', layers: '32', hidden: '4096', tokens: '2048' },
};
type Case = typeof DEFAULTS;

function readCase(text: string): Case {
  const entries = text.split(/\s+/).map((pair) => pair.split('=') as [string, string]);
  const unknown = entries.find(([key]) => !Object.hasOwn(DEFAULTS, key));
  if (unknown !== undefined) throw new Error(`a case has no field ${unknown[0]}`);
  return { ...DEFAULTS, ...(Object.fromEntries(entries) as Partial<Case>) };
}

/** Milliseconds of one update: its span, communication, of it what nothing else runs beside, everything else, idle. */
function timeline(activities: readonly Activity[]): string {
  const device = activities.filter(({ kind }) => kind === 'kernel' || kind === 'copy');
  if (device.length === 0) return 'no GPU';
  const isCommunication = ({ name }: Activity): boolean => /nccl/i.test(name);
  const [all, communication, rest] = [
    device,
    device.filter(isCommunication),
    device.filter((activity) => !isCommunication(activity)),
  ].map(busyTime) as [number, number, number];
  const span =
    Math.max(...device.map(({ end }) => end)) - Math.min(...device.map(({ start }) => start));
  const products = busyTime(device.filter(({ name }) => /gemm|nvjet|cutlass|xmma/i.test(name)));
  const ms = (value: number): string => value.toFixed(0);
  return (
    `span ${ms(span)} ms: communication ${ms(communication)}, bare ${ms(all - rest)}, ` +
    `everything else ${ms(rest)} (products ${ms(products)}), idle ${ms(span - all)}`
  );
}

/** What a rank does of a case: a row for each policy. */
async function measure(text: string, world: World): Promise<void> {
  const given = readCase(text);
  const full = given.train === 'full';
  const masters = given.states === 'fp32';
  const { device } = world;
  const dtype: DType = device === 'cpu' ? 'float32' : 'bfloat16';
  const [rows, micro, steps] = [given.rows, given.micro, given.steps].map(Number) as [
    number,
    number,
    number,
  ];
  if (given.limit !== '') setMemoryLimit(device, Number(given.limit) * 2 ** 30);
  const recipe = checkRecipe({
    name: 'bench',
    model: { from: 'x' },
    data: { sources: ['x'] },
    train: { decoder: full ? 'full' : { lora: { rank: 16, alpha: 32 } }, projector: 'full' },
    optimizer: { learningRate: 1e-4 },
  });
  const model = new Llava(llava8b({ layers: Number(given.layers), hidden: Number(given.hidden) }), {
    dtype,
    kernels: kernelsFor({ device, dtype }),
  });
  const generator = RandomGenerator.create(1, device);
  const { groups } = prepareTrainable(model, { ...recipe, dtype, device, generator });
  const settings = {
    master: masters ? 'float32' : 'none',
    states: masters ? 'float32' : dtype,
  } as const;
  const randomness = new Randomness(1);
  const clipNorm = given.clip === '' ? null : Number(given.clip);
  const parts = { gate: new Gate(device), randomness, clipNorm };
  let store: ParameterStore;
  if (given.zero === 'none') {
    store = new AccumulatingStore({ ...parts, model, optimizer: new AdamW(groups, settings) });
  } else {
    const stage = Number(given.zero) as ZeroStage;
    const ranks = await openRankGroups(world, { stage });
    const offload = given.offload as Offload;
    const sharded = new ShardedModel(model, ranks.shards, {
      ...{ stage, offload },
      master: masters && stage === 3 ? 'float32' : undefined,
    });
    const reduction = (given.reduction || (masters ? 'float32' : 'bfloat16')) as DType;
    const microBatches = rows / world.size / micro;
    const gradients = sliceType({ reduction, eachMicroBatch: stage >= 2 }, microBatches);
    const host = offload === 'none' ? undefined : new HostOptimizer(sharded, groups, { gradients });
    const optimizer = host?.adamw ?? new AdamW(sharded.groupsOf(groups), settings);
    const shared = { ...parts, model: sharded, groups: ranks, stage, host, optimizer, reduction };
    const Strategy = given.backward === '1' ? ShardedUpdateInBackward : ShardedStore;
    store = new Strategy({ ...shared, reshardAfterForward: given.reshard === '1' });
  }
  const own = Array.from({ length: rows / world.size }, (_, i) => world.rank + i * world.size);
  using batches = hold(() =>
    noGrad(() =>
      Array.from({ length: own.length / micro }, (_, i) =>
        makeBatch(
          own
            .slice(i * micro, (i + 1) * micro)
            .map((row) => sample(model.input, { seed: row, tokens: Number(given.tokens) })),
          model.input,
          { device },
        ),
      ),
    ),
  );
  const local = factsOf(batches.value);
  const facts = { supervised: local.supervised * world.size, pictures: true };
  emptyCache(device);
  for (const policy of given.policies.split(',') as MemoryPolicy[]) {
    const setup = {
      ...{ model, device, store, randomness },
      policies: memoryPolicies(model.segments, {
        policy,
        keepBlocks: { decoder: { products: Number(given.products) } },
      }),
      schedule: schedule({ shape: 'constant', updates: steps + 2 }),
    };
    resetPeak(device);
    const lasting = memoryStats(device).allocated;
    const seconds: number[] = [];
    const losses: number[] = [];
    let [queued, before] = [0, NaN];
    let late: { readonly update: number; readonly outcome: UpdateResult } | undefined;
    const read = ({ update, outcome: { numbers, supervised } }: NonNullable<typeof late>): void => {
      losses.push(numbers.read().lossSum[0]! / supervised);
      const now = performance.now();
      if (update >= 2) seconds.push((now - before) / 1000);
      before = now;
    };
    // The last one that is timed has one behind it too.
    for (let update = 0; update <= steps; update++) {
      const start = performance.now();
      const outcome = await drive(runUpdate(setup, update, batches.value, facts));
      queued = performance.now() - start;
      if (late !== undefined) read(late);
      late = { update, outcome };
    }
    late!.outcome.numbers.dispose();
    synchronize(device);
    const { peakAllocated, peakReserved } = memoryStats(device);
    const most = tensor([peakAllocated, peakReserved, lasting].map((bytes) => bytes / 2 ** 30)).to({
      device,
    });
    await world.group.allReduce(most, { label: 'memory', reduction: 'max' }).wait();
    const [peak, reserved, still] = [...most.to({ device: 'cpu' }).toTypedArray()].map((GiB) =>
      Number(GiB).toFixed(2),
    );
    most.dispose();
    const median = seconds.toSorted((a, b) => a - b)[Math.floor(seconds.length / 2)]!;
    const profiled = async (): Promise<string> => {
      const profile = startProfile(device);
      (await drive(runUpdate(setup, steps + 1, batches.value, facts))).numbers.read();
      synchronize(device);
      return timeline(await profile.stop(join(tmpdir(), `patina-${world.rank}.json`)));
    };
    const perSecond = (rows * Number(given.tokens)) / median;
    const spread = (Math.max(...seconds) - Math.min(...seconds)) / median;
    console.log(
      `PATINA ${text} | ${policy} | tok/s ${perSecond.toFixed(0)} | step ${(median * 1000).toFixed(0)} ms ` +
        `(spread ${(100 * spread).toFixed(1)} %, queued ${queued.toFixed(0)}) | peak ${peak!} reserved ${reserved!} lasting ${still!} GiB | ` +
        `losses ${losses
          .slice(0, 4)
          .map((loss) => loss.toFixed(4))
          .join(' ')}`,
    );
    console.log(`PROFILE ${text} | ${policy} | ${await profiled()}`);
    emptyCache(device);
  }
  store.dispose();
}

if (process.env['RANK'] === undefined) {
  let failed = 0;
  for (const text of process.argv.slice(2)) {
    const begun = performance.now();
    const { code, failure } = await launchRanks({
      command: [process.execPath, process.argv[1]!, text],
      processes: Number(readCase(text).ranks),
    });
    if (failure !== null) console.log(`PATINA ${text} | failed: ${failure}`);
    console.log(`-- ${((performance.now() - begun) / 1000).toFixed(0)} s: ${text}`);
    failed = Math.max(failed, code);
  }
  process.exitCode = failed;
} else {
  const world = await rendezvous();
  try {
    await measure(process.argv[2]!, world);
    await world.close();
  } catch (error) {
    console.log(`PATINA ${process.argv[2]!} | rank ${world.rank} | ${(error as Error).message}`);
    await world.close(error);
    process.exit(1);
  }
}
