/** For tests: the ranks of a job as real processes on this machine, which run the compiled room. */

import { spawn, type ChildProcess } from 'node:child_process';
import { pathToFileURL } from 'node:url';
import { packageRoot } from '../base/native-path.js';
import { freePort } from './launch.js';
import type { Peers } from './peers.js';

/** How a rank has ended. */
export interface RankEnd {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  /** What it gave to `say`. */
  readonly said: readonly unknown[];
  /** `code` and `message` of the error that ended it. */
  readonly error: { readonly code: string; readonly message: string } | null;
  readonly stderr: string;
}

export interface Rank {
  readonly process: ChildProcess;
  /** The port at which its job meets. */
  readonly port: string;
  readonly end: Promise<RankEnd>;
  /** Resolves when it has said something, or has ended. */
  readonly spoken: Promise<void>;
}

const module = (path: string): string => pathToFileURL(`${packageRoot()}/dist/src/${path}`).href;

/** The program of a rank around a body of JavaScript, which has the rooms' exports, `rank`, `say` and `sleep`. */
export function program(body: string): string {
  return `
    import { setTimeout as sleep } from 'node:timers/promises';
    import * as torch from '${module('torch/index.js')}';
    import * as parallel from '${module('parallel/index.js')}';
    const { tensor, zeros } = torch;
    const rank = Number(process.env.RANK);
    const say = (value) => process.stdout.write(JSON.stringify(value) + '\\n');
    const join = (options) => parallel.rendezvous({ backend: 'gloo', joinTimeout: 20_000, ...options });
    try {
      ${body}
    } catch (error) {
      say({ error: { code: error.code, message: error.message } });
      process.exitCode = error.exitCode ?? 1;
    }`;
}

/** Starts so many ranks, which meet at a port of their own unless `env` says otherwise. */
export async function startRanks(
  count: number,
  body: string,
  env: (rank: number) => Record<string, string> = () => ({}),
): Promise<Rank[]> {
  const port = await freePort();
  return Array.from({ length: count }, (_, rank) => {
    return startRank(body, {
      RANK: `${rank}`,
      WORLD_SIZE: `${count}`,
      LOCAL_RANK: `${rank}`,
      MASTER_ADDR: '127.0.0.1',
      MASTER_PORT: `${port}`,
      ...env(rank),
    });
  });
}

export function startRank(body: string, env: Readonly<Record<string, string>>): Rank {
  const child = spawn(process.execPath, ['--input-type=module', '-e', program(body)], {
    env: { ...process.env, OMP_NUM_THREADS: '1', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, stderr] = ['', ''];
  const spoken = new Promise<void>((resolve) => {
    child.stdout.on('data', (data) => {
      out += String(data);
      resolve();
    });
    child.once('close', () => resolve());
  });
  child.stderr.on('data', (data) => (stderr += String(data)));
  const end = new Promise<RankEnd>((resolve) => {
    child.once('close', (code, signal) => {
      const said = out
        .split('\n')
        .filter(Boolean)
        .map((line) => JSON.parse(line) as unknown);
      const last = said.at(-1) as { error?: RankEnd['error'] } | undefined;
      const error = last?.error ?? null;
      resolve({ code, signal, said, error, stderr });
    });
  });
  return { process: child, port: env['MASTER_PORT']!, end, spoken };
}

/** Runs ranks to their end. */
export async function runRanks(...args: Parameters<typeof startRanks>): Promise<RankEnd[]> {
  const ranks = await startRanks(...args);
  return Promise.all(ranks.map(({ end }) => end));
}

/** A heartbeat for `join` that beats fast, so that what is lost is missed soon. */
export const FAST = `heartbeat: { interval: 200, timeout: 4_000, grace: 2_000 }`;

/** Resolves when all of these ranks have said something. */
export async function allThere(ranks: readonly Rank[]): Promise<void> {
  await Promise.all(ranks.map(({ spoken }) => spoken));
}

export function ended(ranks: readonly Rank[]): Promise<RankEnd[]> {
  return Promise.all(ranks.map(({ end }) => end));
}

/** Sends a signal to one of three ranks that reduce, and gives the ends of the others. */
export async function endsWithout(lost: number, signal: NodeJS.Signals): Promise<RankEnd[]> {
  const ranks = await startRanks(
    3,
    `
    const world = await join({ ${FAST} });
    say('there');
    for (;;) {
      await world.group.allReduce(zeros([4]), { label: 'step' }).wait();
      await sleep(10);
    }
    `,
  );
  await allThere(ranks);
  ranks[lost]!.process.kill(signal);
  const rest = await ended(ranks.filter((_, rank) => rank !== lost));
  ranks[lost]!.process.kill('SIGKILL');
  return rest;
}

/** Ranks within this process, as they speak to each other. */
export function peersInMemory(size: number): Peers[] {
  interface Round {
    values: unknown[];
    whole: Promise<void>;
    isWhole: () => void;
  }
  const rounds: Round[] = [];
  const newRound = (): Round => {
    const round: Round = { values: [], whole: Promise.resolve(), isWhole: () => undefined };
    round.whole = new Promise((resolve) => (round.isWhole = resolve));
    return round;
  };
  return Array.from({ length: size }, (_, rank) => {
    let next = 0;
    return {
      rank,
      size,
      async gather<T>(_label: string, value: T): Promise<T[]> {
        const round = (rounds[next++] ??= newRound());
        round.values[rank] = JSON.parse(JSON.stringify(value));
        if (Object.keys(round.values).length === size) round.isWhole();
        await round.whole;
        return round.values as T[];
      },
    };
  });
}
