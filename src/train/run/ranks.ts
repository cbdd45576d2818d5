/**
 * `Ranks`: the processes of a run, of which this is one. They go through the same program; whatever they decide, they decide on
 * what all of them have told, so that it is the same everywhere. A process alone has nobody to ask.
 */

import { isDeepStrictEqual } from 'node:util';
import { EnvironmentError, UsageError } from '../../base/errors.js';
import {
  ALONE,
  isCommon,
  makeCommon,
  onFirst,
  peersOf,
  rendezvous,
  type HeartbeatOptions,
  type Peers,
  type RankPlace,
  type World,
} from '../../parallel/index.js';
import { torchFacts } from '../../torch/index.js';

export class Ranks implements Peers {
  /** @param world `null` for a process that is alone */
  constructor(readonly world: World | null = null) {}

  get rank(): number {
    return this.world?.rank ?? 0;
  }

  get size(): number {
    return this.world?.size ?? 1;
  }

  /** Ranks on this machine, as far as a launcher says it. */
  get here(): number {
    return this.world === null ? 1 : Number(process.env['LOCAL_WORLD_SIZE'] ?? 1);
  }

  /** Whether this rank tells the user how the run goes. */
  get speaks(): boolean {
    return this.rank === 0;
  }

  /** The same ranks for something that goes on beside the program, such as a checkpoint that is written. */
  beside(what: string): Peers {
    return this.world === null ? ALONE : peersOf(this.world, what);
  }

  /** Tells all ranks a value, plain data, and gives what each has told, by rank. All call it, in the same order. */
  async gather<T>(label: string, own: T): Promise<T[]> {
    return this.world === null ? [own] : this.world.exchange(label, own);
  }

  /** Something that the first rank does, while the others wait; all get what it gave, or fail as it did. */
  first<T>(label: string, step: () => Promise<T>): Promise<T> {
    return onFirst(this, label, step);
  }

  /** All ranks must have been given the same, plain data. @throws UsageError `E_RANKS_DIFFER` that names the first difference */
  async requireSame(what: string, own: unknown): Promise<void> {
    const told = await this.gather(what, own);
    const other = told.findIndex((each) => !isDeepStrictEqual(each, told[0]));
    if (other < 0) return;
    const where = firstDifference(told[0], told[other]);
    throw makeCommon(
      new UsageError(`Rank ${other} has another ${what} than rank 0: ${where} differs.`, {
        code: 'E_RANKS_DIFFER',
        hint: 'Start all ranks with the same command, on the same files.',
      }),
    );
  }

  /** Whether all ranks end with this error, at the same place of the program, and are there. */
  endWith(error: unknown): boolean {
    return this.world === null || (this.world.loss === undefined && isCommon(error));
  }

  /** Leaves the others; with an error, they end too. */
  async close(error?: unknown): Promise<void> {
    await this.world?.close(this.endWith(error) ? undefined : error);
  }
}

/** Where two values that differ do so first, as a path of keys. */
function firstDifference(a: unknown, b: unknown, path = ''): string {
  const isPair = typeof a === 'object' && a !== null && typeof b === 'object' && b !== null;
  if (!isPair) return path;
  const [x, y] = [a, b] as Record<string, unknown>[] as [
    Record<string, unknown>,
    Record<string, unknown>,
  ];
  const key = Object.keys({ ...x, ...y }).find((each) => !isDeepStrictEqual(x[each], y[each]))!;
  return firstDifference(x[key], y[key], path === '' ? key : `${path}.${key}`);
}

export interface JoinOptions {
  /** Of the recipe. */
  readonly device: string;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Meets the other ranks of this job, where there are some.
 *
 * @throws UsageError `E_DEVICE` for a device by its number; those of `rendezvous`
 */
export async function joinRanks(place: RankPlace, { device, signal }: JoinOptions): Promise<Ranks> {
  if (place.worldSize === 1) return new Ranks();
  refuseOneGpu(device, place.worldSize);
  const onGpu =
    device === 'cuda' || (device === 'auto' && (torchFacts().cuda?.devices.length ?? 0) > 0);
  const heartbeat = rankPatience();
  return new Ranks(
    await rendezvous({
      ...{ place, heartbeat },
      backend: onGpu ? 'nccl' : 'gloo',
      ...(signal && { signal }),
    }),
  );
}

/** Seconds after which a rank that was not heard of counts as lost. */
const PATIENCE_VARIABLE = 'PATINA_RANK_TIMEOUT';

/** Milliseconds between beats, until a rank is lost, and until a process that does not end by itself is ended. */
export function rankPatience(): Required<HeartbeatOptions> {
  const text = process.env[PATIENCE_VARIABLE] || '15';
  const seconds = Number(text);
  if (!(seconds >= 1 && seconds <= 3600)) {
    throw new EnvironmentError(
      `${PATIENCE_VARIABLE}='${text}' is no number of seconds from 1 to 3600.`,
      {
        code: 'E_RANKS',
        hint: 'Unset it for 15 s.',
      },
    );
  }
  const timeout = 1000 * seconds;
  return { interval: timeout / 15, timeout, grace: timeout };
}

/** @throws UsageError `E_DEVICE` for a device by its number, of which several ranks would all have the same */
export function refuseOneGpu(device: string, ranks: number): void {
  if (ranks > 1 && /^cuda:/.test(device)) {
    throw new UsageError(
      `device is ${device}, but there are ${ranks} ranks, and each has a GPU of its own.`,
      {
        code: 'E_DEVICE',
        hint: 'Set `device` to cuda: rank i of a machine takes its GPU i. CUDA_VISIBLE_DEVICES says which there are.',
      },
    );
  }
}
