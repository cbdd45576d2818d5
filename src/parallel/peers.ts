/**
 * What the ranks of a job say to each other beside training: small values, from each to all, through the store. It needs no process
 * group, so it may go on while training does.
 */

import { EnvironmentError, type PatinaError } from '../base/errors.js';
import { errorOf, toPlain, type PlainError } from '../base/plain-error.js';
import { soon } from './soon.js';
import type { World } from './world.js';

export interface Peers {
  readonly rank: number;
  readonly size: number;
  /**
   * The values of all ranks, in the order of ranks: plain JSON. Each rank makes the same calls in the same order.
   *
   * @param label what the ranks meet for, for messages
   * @throws EnvironmentError `E_PEERS` where ranks meet for different things; what the loss of a rank is told with
   */
  gather<T>(label: string, value: T): Promise<T[]>;
}

/** A process that shares nothing out. */
export const ALONE: Peers = {
  rank: 0,
  size: 1,
  gather: (_, value) => Promise.resolve([value]),
};

/** Milliseconds in which all ranks must have come: one may write for long. */
const TIMEOUT = 3_600_000;

/**
 * The ranks of a world, by way of its store.
 *
 * @param name of its own for each use of them that goes on beside another
 */
export function peersOf(
  world: Pick<World, 'rank' | 'size' | 'store' | 'lost' | 'patience'>,
  name: string,
): Peers {
  const { rank, size, store, lost, patience } = world;
  const loss = new AbortController();
  void lost.then((error) => loss.abort(error));
  const { signal } = loss;
  const keyOf = (round: number, of: number): string => `peers/${name}/${round}/${of}`;
  let round = 0;
  return {
    rank,
    size,
    async gather<T>(label: string, value: T): Promise<T[]> {
      const now = round++;
      const said: [string, T][] = [];
      try {
        await store.set(keyOf(now, rank), JSON.stringify([label, value]));
        const keys = Array.from({ length: size }, (_, of) => keyOf(now, of));
        await store.wait(keys, { timeout: TIMEOUT, signal });
        for (const key of keys) said.push(JSON.parse((await store.get(key))!) as [string, T]);
        // Who has come to this round has read the one before.
        if (now > 0) await store.delete(keyOf(now - 1, rank));
      } catch (error) {
        // The store is gone with the rank that holds it: that is what is told.
        throw (await soon(lost, patience)) ?? error;
      }
      const other = said.findIndex(([theirs]) => theirs !== label);
      if (other < 0) return said.map(([, each]) => each);
      throw new EnvironmentError(
        `rank ${rank} is at '${label}' while rank ${other} is at '${said[other]![0]}'`,
        { code: 'E_PEERS', hint: 'Start all ranks with the same recipe and the same version.' },
      );
    },
  };
}

/** Errors with which all ranks end. */
const common = new WeakSet<object>();

/** Whether all ranks of the job end with this error, at the same place of the program. */
export function isCommon(error: unknown): boolean {
  return error instanceof Error && common.has(error);
}

/** An error of this rank that all of them have been told. */
export function makeCommon<E>(error: E): E {
  if (error instanceof Error) common.add(error);
  return error;
}

/** The error that another rank has told to all. */
export function errorOfRank(rank: number, { message, typed }: PlainError): PatinaError {
  const { exitCode, code, hint } = typed ?? {
    ...{ exitCode: 1, code: 'E_RANK_FAILED', hint: 'See the log of that rank.' },
  };
  return makeCommon(errorOf(exitCode, `rank ${rank}: ${message}`, { code, hint }));
}

/**
 * Takes a step on every rank, and gives what it gave on each. Where it fails on one rank it fails on all, there with an error that
 * names the rank.
 */
export async function together<T>(
  peers: Peers,
  label: string,
  step: () => T | Promise<T>,
): Promise<T[]> {
  const outcome = await Promise.resolve()
    .then(step)
    .then(
      (value) => ({ value }),
      (error: unknown) => ({ error }),
    );
  const told = 'error' in outcome ? { failure: toPlain(outcome.error) } : outcome;
  const all = await peers.gather<{ value: T } | { failure: PlainError }>(label, told);
  if ('error' in outcome) throw makeCommon(outcome.error);
  return all.map((each, rank) => {
    if ('failure' in each) throw errorOfRank(rank, each.failure);
    return each.value;
  });
}

/** Takes a step on rank 0 alone; all ranks get what it gave. Fails on all as `together` does. */
export async function onFirst<T>(
  peers: Peers,
  label: string,
  step: () => T | Promise<T>,
): Promise<T> {
  const [first] = await together(peers, label, () => (peers.rank === 0 ? step() : null));
  return first as T;
}
