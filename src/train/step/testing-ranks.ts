/** For tests of sharding: one short training of a tiny LLaVA with dropout, on the ranks of a world or in one process. */

import { pathToFileURL } from 'node:url';
import { packageRoot } from '../../base/native-path.js';
import { Linear } from '../../nn/index.js';
import { drive, makeBatch, type Llava, type Sample } from '../../models/index.js';
import { AdamW, Gate, schedule } from '../../optim/index.js';
import type { World } from '../../parallel/index.js';
import { runRanks } from '../../parallel/testing.js';
import { liveTensors, memoryStats, noGrad, RandomGenerator, tensorsIn } from '../../torch/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { HostOptimizer } from './host-optimizer.js';
import { memoryPolicies, type MemoryPolicy } from './memory-policy.js';
import type { ParameterStore } from './parameter-store.js';
import { Randomness } from './randomness.js';
import { openRankGroups } from './rank-groups.js';
import { ShardedModel, type Offload, type ZeroStage } from './sharded-model.js';
import { ShardedStore } from './sharded-store.js';
import { ShardedUpdateInBackward } from './sharded-update-in-backward.js';
import { tinyLlava, tinySample } from './testing.js';
import { factsOf, runUpdate } from './update.js';

/** What trains, and how ranks share it. */
export interface RankCase {
  readonly trains: 'full' | 'LoRA' | 'projector';
  readonly stage: ZeroStage;
  readonly shardOver?: number | undefined;
  readonly offload: Offload;
  readonly policy: MemoryPolicy;
  readonly reshardAfterForward: boolean;
  /** Whether records are packed into one micro-batch a rank; else each is one. */
  readonly packed: boolean;
  /** Only where records are packed. */
  readonly updateInBackward: boolean;
}

const TRAINS: Record<RankCase['trains'], (name: string) => boolean> = {
  full: () => true,
  LoRA: (name) => /lora_|projector/.test(name),
  projector: (name) => name.includes('projector'),
};

function prepared(trains: RankCase['trains']): Llava {
  const model = tinyLlava({ tied: true });
  for (const [name, module] of model.namedModules()) {
    if (trains !== 'projector' && module instanceof Linear && name.includes('layers')) {
      module.attachAdapter({ rank: 2, alpha: 4, dropout: 0.1 });
    }
  }
  const generator = RandomGenerator.create(3);
  model.initialize('cpu', { generator });
  generator.dispose();
  for (const [name, parameter] of model.namedParameters()) {
    // Else nothing reaches the other half of an adapter in the first update.
    if (name.includes('lora_B')) noGrad(() => parameter.fill_(0.01));
    parameter.requiresGrad_(TRAINS[trains](name));
  }
  return model;
}

/** The records of an update: of different lengths, with one or two pictures or none; in every third none has any. */
function recordsOf(update: number): Sample[] {
  const pictures = update % 3 === 2 ? [0, 0, 0] : [1, 0, 2, 0, 1];
  return pictures.map((count, i) => tinySample(count, 5 + ((7 * i + 3 * update) % 11), update + i));
}

/** Trains all cases on so many ranks of this machine, in one set of processes; what each rank saw of each. */
export async function onRanks(
  ranks: number,
  cases: readonly RankCase[],
  updates = 4,
): Promise<RankCourse[][]> {
  const path = pathToFileURL(`${packageRoot()}/dist/src/train/step/testing-ranks.js`).href;
  const ends = await runRanks(
    ranks,
    `
    const { trainCase } = await import('${path}');
    torch.setThreads(1);
    const world = await join();
    for (const each of ${JSON.stringify(cases)}) say(await trainCase(world, each, ${updates ?? 'undefined'}));
    await world.close();
    `,
  );
  for (const { error, code, stderr } of ends) {
    if (error !== null || code !== 0)
      throw new Error(`a rank has failed: ${error?.message ?? stderr}`);
  }
  return cases.map((_, i) => ends.map(({ said }) => said[i] as RankCourse));
}

/** Numbers of each update, and what is left in memory after some of them. */
export interface RankCourse {
  readonly losses: number[];
  readonly norms: number[];
  readonly live: number[];
  readonly bytes: number[];
}

/** Trains; in one process where there is no world, with the same records in each update. */
export async function trainCase(
  world: World | null,
  { trains, stage, shardOver, offload, policy, reshardAfterForward, ...how }: RankCase,
  updates = 4,
): Promise<RankCourse> {
  const model = prepared(trains);
  const chosen = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
  const groups = [
    { name: 'all', parameters: new Map(chosen), learningRate: 1e-2, weightDecay: 0.1 },
  ];
  // Adam would turn the rounding of gradients that are nearly 0 into whole steps.
  const settings = { eps: 1e-2 };
  const randomness = new Randomness(7);
  const gate = new Gate('cpu');
  let store: ParameterStore;
  if (world === null) {
    store = new AccumulatingStore({
      ...{ model, gate, randomness },
      optimizer: new AdamW(groups, settings),
    });
  } else {
    const ranks = await openRankGroups(world, { stage, shardOver });
    const sharded = new ShardedModel(model, ranks.shards, { stage, offload });
    const host = offload === 'none' ? undefined : new HostOptimizer(sharded, groups, settings);
    const optimizer = host?.adamw ?? new AdamW(sharded.groupsOf(groups), settings);
    const Strategy = how.updateInBackward ? ShardedUpdateInBackward : ShardedStore;
    store = new Strategy({
      ...{ model: sharded, groups: ranks, stage, optimizer, host, gate, randomness },
      reshardAfterForward,
    });
  }
  const setup = {
    ...{ model, store, randomness },
    device: 'cpu' as const,
    policies: memoryPolicies(model.segments, { policy }),
    schedule: schedule({ shape: 'constant', updates }),
  };
  const { rank, size } = world ?? { rank: 0, size: 1 };
  const course: RankCourse = { losses: [], norms: [], live: [], bytes: [] };
  for (let update = 0; update < updates; update++) {
    const records = recordsOf(update).map((sample, position) => ({ ...sample, position }));
    const whole = makeBatch(records, model.input);
    const facts = factsOf([whole]);
    const own = records.filter((_, i) => i % size === rank);
    const count = how.packed ? 1 : Math.ceil(records.length / size);
    const batches = Array.from({ length: count }, (_, i) => {
      const share = how.packed ? own : own.slice(i, i + 1);
      return share.length === 0 ? null : makeBatch(share, model.input);
    });
    const { numbers } = await drive(runUpdate(setup, update, batches, facts));
    await store.settle();
    const { lossSum, norm } = numbers.read();
    course.losses.push(lossSum[0]! / facts.supervised);
    course.norms.push(norm[0]!);
    for (const each of [...tensorsIn([whole, batches])]) each.dispose();
    course.live.push(liveTensors());
    course.bytes.push(memoryStats('cpu').allocated);
  }
  store.dispose();
  model.dispose();
  return course;
}
