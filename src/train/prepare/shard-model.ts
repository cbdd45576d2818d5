/** The model of a rank: its parameters move into the buffers that ranks share out. What a rank holds of it, in words. */

import { formatBytes } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import { laySideBySide, type ParameterSources, type SegmentedModel } from '../../models/index.js';
import type { TensorPart } from '../../parallel/index.js';
import { empty, type Device } from '../../torch/index.js';
import type { RankGroups } from '../step/rank-groups.js';
import type { StoreBytes } from '../step/parameter-store.js';
import { ShardedModel } from '../step/sharded-model.js';
import type { ChosenPrecision } from './precision.js';
import type { Trainable } from './trainable.js';

export interface ShardingOptions {
  /** `null` for a process that shares nothing out. */
  readonly groups: RankGroups | null;
  readonly parallel: Recipe['parallel'];
  readonly precision: Pick<ChosenPrecision, 'master' | 'states'>;
  readonly device: Device;
  /** Of a hollow model. @default none: the model holds its parameters */
  readonly sources?: ParameterSources | null;
  readonly signal?: AbortSignal | undefined;
}

/** A model that is shared out, and who shares what with whom. */
export interface Sharding {
  readonly model: ShardedModel;
  readonly groups: RankGroups;
}

export interface SharedOut {
  /** `null` for a process that shares nothing out. */
  readonly sharding: Sharding | null;
  /** The same, over the tensors that the model has now. */
  readonly trainable: Trainable;
}

/**
 * Moves the parameters of a model that several ranks train; that of a process alone stays as it is. Of a hollow model each rank reads
 * or draws its parts, and what no buffer holds.
 *
 * @throws those of `ParameterSources.fill`
 */
export async function shardModel(
  model: SegmentedModel,
  trainable: Trainable,
  options: ShardingOptions,
): Promise<SharedOut> {
  const { groups, precision, sources = null } = options;
  const { zero: stage, offload } = options.parallel;
  if (groups === null) return { sharding: null, trainable };
  // The slices of stage 3 are the masters themselves.
  const master = stage === 3 && precision.master === 'float32' ? 'float32' : undefined;
  const device = sources === null ? undefined : options.device;
  const sharded = new ShardedModel(model, groups.shards, { stage, master, device, offload });
  if (sources !== null) {
    try {
      const parts = sharded.parts(groups);
      const unread = parts.filter(({ name }) => !sharded.holds(name));
      await fill(model, { parts, unread }, { ...options, sources });
      laySideBySide(model);
    } catch (error) {
      sharded.dispose();
      throw error;
    }
  }
  const named = model.namedParameters();
  const parameters = new Map(
    [...trainable.parameters.keys()].map((name) => [name, named.get(name)!]),
  );
  return { sharding: { model: sharded, groups }, trainable: { ...trainable, parameters } };
}

interface Parts {
  readonly parts: readonly TensorPart[];
  /** Those of them that no segment reads, and so no buffer holds. */
  readonly unread: readonly TensorPart[];
}

async function fill(
  model: SegmentedModel,
  { parts, unread }: Parts,
  { sources, device, signal }: ShardingOptions & { sources: ParameterSources },
): Promise<void> {
  for (const { name, shape, tensor } of unread) {
    model.load(name, empty(shape, { dtype: tensor.dtype, device }));
  }
  const there = model.namedParameters();
  const targets = parts.map((part) =>
    unread.includes(part) ? { ...part, tensor: there.get(part.name)! } : part,
  );
  await sources.fill(model, targets, { device, signal });
}

/** What each process holds and, with an optimizer in host memory, what an update costs: one sentence. */
export function describeShares(
  { device, host }: StoreBytes,
  { size, parallel: { zero, offload } }: Pick<ShardingOptions, 'parallel'> & { size: number },
): string {
  const list = ({ weights, gradients, optimizer }: StoreBytes['device']): string =>
    Object.entries({ weights, gradients, optimizer })
      .filter(([, bytes]) => bytes > 0)
      .map(([what, bytes]) => `${formatBytes(bytes)} of ${what}`)
      .join(', ');
  const who = size === 1 ? 'one process' : `${size} ranks, ZeRO stage ${zero}: each`;
  const there = `${who} holds ${list(device) || 'nothing that lasts'}`;
  if (offload === 'none') return there;
  const moved = formatBytes(host.gradients);
  return `${there}; in host memory ${list(host)}: an update copies ${moved} of gradients there, and the CPU reads and writes about 30 bytes a parameter`;
}
