/** Who shares slices with whom: all ranks, or groups of neighbours, of which each keeps a replica of what the others keep. */

import { UsageError } from '../../base/errors.js';
import { makeCommon, ProcessGroup, type Work, type World } from '../../parallel/index.js';
import { empty, noGrad, type Tensor } from '../../torch/index.js';
import type { ZeroStage } from './sharded-model.js';

export interface RankGroups {
  readonly world: ProcessGroup;
  /** Those who keep slices of one whole; alone where every rank keeps all of it. */
  readonly shards: ProcessGroup;
  /** Those who keep the same slice. */
  readonly replicas: ProcessGroup;
}

export interface SharingOptions {
  readonly stage: ZeroStage;
  /** Neighbouring ranks that share slices. @default all ranks */
  readonly shardOver?: number | undefined;
}

/**
 * Opens the groups of a rank; all ranks call it.
 *
 * @throws UsageError `E_SHARD_OVER` for a number that does not divide that of the ranks
 */
export async function openRankGroups(
  world: Pick<World, 'rank' | 'size' | 'group' | 'newGroup'>,
  { stage, shardOver = world.size }: SharingOptions,
): Promise<RankGroups> {
  const { size, rank, group } = world;
  if (!Number.isInteger(shardOver) || shardOver < 1 || size % shardOver !== 0) {
    throw makeCommon(
      new UsageError(`parallel.shardOver is ${shardOver}, which does not divide ${size} ranks`, {
        code: 'E_SHARD_OVER',
        hint: 'Set it to a divisor of their number, such as the ranks of one machine, or leave it out.',
      }),
    );
  }
  const sharing = stage === 0 ? 1 : shardOver;
  const first = rank - (rank % sharing);
  const open = (name: string, members: readonly number[]): Promise<ProcessGroup> =>
    members.length === 1 ? aloneGroup() : world.newGroup(name, members);
  const shards = Array.from({ length: sharing }, (_, i) => first + i);
  const replicas = Array.from({ length: size / sharing }, (_, i) => (rank % sharing) + i * sharing);
  return {
    world: group,
    shards: sharing === size ? group : await open('shards', shards),
    replicas: sharing === 1 ? group : await open('replicas', replicas),
  };
}

/** The groups of a process without others. */
export async function aloneGroups(): Promise<RankGroups> {
  const alone = await aloneGroup();
  return { world: alone, shards: alone, replicas: alone };
}

/** Its calls have nothing to move. */
const aloneGroup = (): Promise<ProcessGroup> => ProcessGroup.fake(0, 1);

/** A row of each rank of a group (N, n), in their order, once the call has ended. */
export interface Gathered extends Disposable {
  readonly rows: Tensor;
  readonly work: Work;
}

export function gatherRows(group: ProcessGroup, row: Tensor, label: string): Gathered {
  const { dtype, device } = row;
  const rows = noGrad(() => empty([group.size, row.numel], { dtype, device })).keep();
  if (group.size === 1) noGrad(() => rows.copy_(row));
  const work = group.allGather(rows, row, { label });
  return { rows, work, [Symbol.dispose]: () => rows.dispose() };
}
