/** Training on several processes of this machine: starting them, and what each of them does. */

import type { parseArgs } from 'node:util';
import { UsageError } from '../src/base/errors.js';
import type { Sample, SegmentedModel } from '../src/models/index.js';
import { AdamW, type AdamWOptions, type Gate, type ParameterGroup } from '../src/optim/index.js';
import { launchRanks, rendezvous, type World } from '../src/parallel/index.js';
import { HostOptimizer } from '../src/train/step/host-optimizer.js';
import type { Randomness } from '../src/train/step/randomness.js';
import { openRankGroups } from '../src/train/step/rank-groups.js';
import { ShardedModel, type Offload, type ZeroStage } from '../src/train/step/sharded-model.js';
import { ShardedStore } from '../src/train/step/sharded-store.js';

/** This process among the ranks. */
export interface Ranks extends Sharing {
  readonly world: World;
}

/** How ranks share the work. */
interface Sharing {
  readonly stage: ZeroStage;
  /** Whether each rank takes its records one at a time. */
  readonly oneByOne: boolean;
  readonly offload: Offload;
  readonly shardOver: number | undefined;
  readonly reshardAfterForward: boolean;
}

export const RANK_OPTIONS = {
  ranks: { type: 'string', default: '1' },
  zero: { type: 'string' },
  accumulate: { type: 'boolean', default: false },
  offload: { type: 'string' },
  'shard-over': { type: 'string' },
  'keep-gathered': { type: 'boolean', default: false },
} as const;

type RankFlags = ReturnType<typeof parseArgs<{ options: typeof RANK_OPTIONS }>>['values'];

/** Whether any of the options asks for ranks, be it one. */
export function usesRanks(flags: RankFlags): boolean {
  return (
    flags.ranks !== RANK_OPTIONS.ranks.default ||
    [flags.zero, flags.offload, flags['shard-over']].some((flag) => flag !== undefined) ||
    flags.accumulate ||
    flags['keep-gathered']
  );
}

/**
 * In one of the ranks: what it is. In the process that was called: starts the ranks and tells how they ended. `undefined`
 * where there is one process alone.
 */
export async function joinRanks(
  argv: readonly string[],
  flags: RankFlags,
): Promise<Ranks | 'done' | 'failed' | undefined> {
  if (!usesRanks(flags)) return undefined;
  const sharing = sharingOf(flags);
  if (process.env['RANK'] === undefined) {
    const { code, failure } = await launchRanks({
      command: [process.execPath, process.argv[1]!, 'train', ...argv],
      processes: Number(flags.ranks),
    });
    if (failure !== null) console.error(failure);
    return code === 0 ? 'done' : 'failed';
  }
  return { world: await rendezvous({ backend: 'gloo' }), ...sharing };
}

function sharingOf(flags: RankFlags): Sharing {
  const { ranks, zero = '0', offload = 'none' } = flags;
  const shardOver = flags['shard-over'];
  const refuse = (what: string, hint: string): never => {
    throw new UsageError(`parity train cannot run with ${what}.`, { code: 'E_USAGE', hint });
  };
  if (!/^[1-9]\d?$/.test(ranks) || Number(ranks) > 64 || !/^[0-3]$/.test(zero)) {
    refuse(
      `--ranks ${ranks} --zero ${zero}`,
      'Give a number of processes from 1 to 64, and a stage from 0 to 3.',
    );
  }
  if (!['none', 'optimizer', 'parameters'].includes(offload)) {
    refuse(`--offload ${offload}`, 'Give optimizer or parameters.');
  }
  if (offload === 'parameters' && zero !== '3') {
    refuse(`--offload parameters --zero ${zero}`, 'Give --zero 3: else parameters stay whole.');
  }
  if (shardOver !== undefined && !(Number(ranks) % Number(shardOver) === 0)) {
    refuse(`--shard-over ${shardOver}`, 'Give a number that divides that of the ranks.');
  }
  return {
    stage: Number(zero) as ZeroStage,
    oneByOne: flags.accumulate,
    offload: offload as Offload,
    shardOver: shardOver === undefined ? undefined : Number(shardOver),
    reshardAfterForward: !flags['keep-gathered'],
  };
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
  { world, stage, offload, shardOver, reshardAfterForward }: Ranks,
  parts: { gate: Gate; randomness: Randomness; clipNorm: number | null },
): Promise<ShardedStore> {
  const ranks = await openRankGroups(world, { stage, shardOver });
  const sharded = new ShardedModel(model, ranks.shards, { stage, offload });
  const host = offload === 'none' ? undefined : new HostOptimizer(sharded, groups, settings);
  const optimizer = host?.adamw ?? new AdamW(sharded.groupsOf(groups), settings);
  return new ShardedStore({
    ...{ model: sharded, groups: ranks, stage, optimizer, host, reshardAfterForward },
    ...parts,
  });
}
