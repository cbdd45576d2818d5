/** Training on several processes of this machine: starting them, and what each of them does. */
import { UsageError } from '../src/base/errors.js';
import type { Sample, SegmentedModel } from '../src/models/index.js';
import { AdamW, type AdamWOptions, type Gate, type ParameterGroup } from '../src/optim/index.js';
import { launchRanks, rendezvous, type World } from '../src/parallel/index.js';
import type { Randomness } from '../src/train/step/randomness.js';
import { openRankGroups } from '../src/train/step/rank-groups.js';
import { ShardedModel, type ZeroStage } from '../src/train/step/sharded-model.js';
import { ShardedStore } from '../src/train/step/sharded-store.js';

/** This process among the ranks. */
export interface Ranks {
  readonly world: World;
  readonly stage: ZeroStage;
  /** Whether each rank takes its records one at a time. */
  readonly oneByOne: boolean;
}

interface RankFlags {
  readonly ranks: string;
  readonly zero?: string | undefined;
  readonly accumulate: boolean;
}

/**
 * In one of the ranks: what it is. In the process that was called: starts the ranks and tells how they ended. `undefined`
 * where there is one process alone.
 */
export async function joinRanks(
  argv: readonly string[],
  { ranks, zero, accumulate }: RankFlags,
): Promise<Ranks | 'done' | 'failed' | undefined> {
  if (ranks === '1' && zero === undefined && !accumulate) return undefined;
  const [size, stage] = [Number(ranks), Number(zero ?? 0)];
  if (!Number.isInteger(size) || size < 1 || size > 64 || ![0, 1, 2, 3].includes(stage)) {
    throw new UsageError(`parity train cannot run with --ranks ${ranks} --zero ${zero ?? 0}.`, {
      code: 'E_USAGE',
      hint: 'Give a number of processes, and a stage from 0 to 3.',
    });
  }
  if (process.env['RANK'] === undefined) {
    const { code, failure } = await launchRanks({
      command: [process.execPath, process.argv[1]!, 'train', ...argv],
      processes: size,
    });
    if (failure !== null) console.error(failure);
    return code === 0 ? 'done' : 'failed';
  }
  const world = await rendezvous({ backend: 'gloo' });
  return { world, stage: stage as ZeroStage, oneByOne: accumulate };
}

/** Whether this process reports. */
export const speaks = (ranks: Ranks | undefined): boolean => (ranks?.world.rank ?? 0) === 0;

/** The records of this rank, in as many micro-batches as every rank has; empty ones where it has none. */
export function dealSamples(
  samples: readonly Sample[],
  { world: { rank, size }, oneByOne }: Ranks,
): Sample[][] {
  const own = samples.filter((_, i) => i % size === rank);
  if (!oneByOne) return [own];
  return Array.from({ length: Math.ceil(samples.length / size) }, (_, i) => own.slice(i, i + 1));
}

/** The store of one rank. */
export async function shardedStore(
  model: SegmentedModel,
  groups: readonly ParameterGroup[],
  settings: AdamWOptions,
  { world, stage }: Ranks,
  parts: { gate: Gate; randomness: Randomness; clipNorm: number | null },
): Promise<ShardedStore> {
  const ranks = await openRankGroups(world, { stage });
  const sharded = new ShardedModel(model, ranks.shards, { stage });
  const optimizer = new AdamW(sharded.groupsOf(groups), settings);
  return new ShardedStore({ model: sharded, groups: ranks, stage, optimizer, ...parts });
}
