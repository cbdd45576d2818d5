/**
 * `launchRanks`: starts a command once per rank on this machine, with the variables of torchrun, and ends when all have ended.
 *
 * Ranks are leaders of process groups of their own, so that Ctrl-C reaches each of them once, from here. Where one fails, the others
 * are ended; none is left behind.
 */

import { spawn, type ChildProcess } from 'node:child_process';
import { randomInt } from 'node:crypto';
import { closeSync, mkdirSync, openSync } from 'node:fs';
import { createServer } from 'node:net';
import { availableParallelism } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { EnvironmentError } from '../base/errors.js';
import type { NodePlace } from './environment.js';
import { LAUNCHER_VARIABLE } from './launcher.js';

export interface LaunchOptions {
  /** The program and its arguments. */
  readonly command: readonly string[];
  /** Ranks on this machine. */
  readonly processes: number;
  /** One machine of several; without it, all ranks are here and meet at a free port of the loopback. */
  readonly node?: NodePlace;
  /** @default the variables of this process */
  readonly env?: NodeJS.ProcessEnv;
  /**
   * A folder for what ranks other than the first print: `rank-1.log` and so on. Without it, their standard error goes line by
   * line to this process's, with `[rank 1]` before it, and their standard output nowhere.
   */
  readonly logs?: string;
  /** Milliseconds from telling ranks to end to ending them. @default 15_000 */
  readonly grace?: number;
}

/** What ended a launch. */
export interface LaunchResult {
  /** The exit code of the first rank that failed; 3 where a signal killed it, 130 after Ctrl-C; 0 if none failed. */
  readonly code: number;
  /** What happened to the rank that failed first, for example `rank 1 was killed by SIGKILL`. */
  readonly failure: string | null;
  /** Whether rank 0 was here and has ended with an error of its own, which it has told. */
  readonly told: boolean;
}

/** The exit code of what was ended from outside, as shells have it for Ctrl-C. */
const INTERRUPTED = 130;
const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** Milliseconds in which further signals are the first one again: npm and terminals signal a process and its group. */
const ECHO = 500;

/**
 * Runs the ranks. The first SIGINT, SIGTERM or SIGHUP is handed on to each of them once; a second SIGINT or SIGTERM kills them.
 *
 * @throws EnvironmentError `E_LAUNCH` if the command cannot be started
 */
export async function launchRanks(options: LaunchOptions): Promise<LaunchResult> {
  const port = options.node?.port ?? (await freePort());
  const ranks = new Ranks(options, port);
  const handle = (signal: NodeJS.Signals): void => ranks.interrupt(signal);
  for (const signal of SIGNALS) process.on(signal, handle);
  try {
    return await ranks.run();
  } finally {
    for (const signal of SIGNALS) process.off(signal, handle);
  }
}

class Ranks {
  private readonly children: ChildProcess[] = [];
  private failure: { code: number; text: string } | undefined;
  private told = false;
  private interrupted: number | undefined;
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly options: LaunchOptions,
    private readonly port: number,
  ) {}

  async run(): Promise<LaunchResult> {
    const { processes, logs } = this.options;
    if (logs !== undefined) mkdirSync(logs, { recursive: true });
    const starts = Array.from({ length: processes }, (_, index) => this.start(index));
    const ends = await Promise.allSettled(starts);
    clearTimeout(this.timer);
    const fault = ends.find((end) => end.status === 'rejected');
    if (fault !== undefined) throw fault.reason;
    const { failure, told } = this;
    return { code: failure?.code ?? 0, failure: failure?.text ?? null, told };
  }

  /** What a signal to this process means: ranks end in order, then at once. */
  interrupt(signal: NodeJS.Signals): void {
    const now = performance.now();
    if (this.interrupted === undefined) {
      this.interrupted = now;
      // A rank that is stopped takes the signal when it goes on.
      this.signal(signal);
      this.signal('SIGCONT');
    } else if (now - this.interrupted > ECHO && signal !== 'SIGHUP') {
      this.signal('SIGKILL');
    }
  }

  /** Resolves when the rank has ended. */
  private async start(index: number): Promise<void> {
    const { command, processes, logs, node, env = process.env } = this.options;
    const rank = (node?.index ?? 0) * processes + index;
    const first = rank === 0;
    const log = first || logs === undefined ? null : openSync(join(logs, `rank-${rank}.log`), 'a');
    const child = spawn(command[0]!, command.slice(1), {
      detached: true,
      env: { ...defaultThreads(env, processes), ...this.variables(index, rank) },
      stdio: ['ignore', first ? 'inherit' : (log ?? 'ignore'), first ? 'inherit' : (log ?? 'pipe')],
    });
    if (log !== null) closeSync(log);
    this.children.push(child);
    if (child.stderr) {
      const lines = createInterface({ input: child.stderr });
      lines.on('line', (line) => process.stderr.write(`[rank ${rank}] ${line}\n`));
    }
    const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>(
      (resolve, reject) => {
        child.once('error', (cause) => reject(this.notStarted(cause)));
        // Whatever the rank has started goes with it.
        child.once('exit', () => kill(child, 'SIGKILL'));
        // What it printed last has come.
        child.once('close', (...ended) => resolve(ended));
      },
    );
    if (first) this.told = code !== null && code !== 0 && code !== INTERRUPTED;
    if (code !== 0) this.fail(rank, code, signal);
  }

  /** The first failure counts, and ends the others. */
  private fail(rank: number, code: number | null, signal: NodeJS.Signals | null): void {
    if (this.failure !== undefined) return;
    const interrupted = this.interrupted !== undefined;
    this.failure =
      code === null
        ? { code: interrupted ? INTERRUPTED : 3, text: `rank ${rank} was killed by ${signal!}` }
        : { code, text: `rank ${rank} ended with exit code ${code}` };
    // Where all were told to end by a signal, each still has something to save.
    if (!interrupted) this.end();
  }

  private end(): void {
    this.signal('SIGTERM');
    this.signal('SIGCONT');
    this.timer = setTimeout(() => this.signal('SIGKILL'), this.options.grace ?? 15_000);
  }

  private signal(signal: NodeJS.Signals): void {
    for (const child of this.children) {
      if (child.exitCode === null && child.signalCode === null) kill(child, signal);
    }
  }

  private notStarted(cause: Error): EnvironmentError {
    this.end();
    return new EnvironmentError(`${this.options.command[0]!} cannot be started: ${cause.message}`, {
      code: 'E_LAUNCH',
      hint: 'Name a program that can be run.',
      cause,
    });
  }

  private variables(index: number, rank: number): Record<string, string> {
    const { processes, node } = this.options;
    return {
      RANK: `${rank}`,
      WORLD_SIZE: `${processes * (node?.count ?? 1)}`,
      LOCAL_RANK: `${index}`,
      LOCAL_WORLD_SIZE: `${processes}`,
      MASTER_ADDR: node?.address ?? '127.0.0.1',
      MASTER_PORT: `${this.port}`,
      [LAUNCHER_VARIABLE]: `${process.pid}`,
    };
  }
}

/** Threads for the operators of each rank, unless somebody has decided: together as many as there are cores. */
function defaultThreads(env: NodeJS.ProcessEnv, processes: number): NodeJS.ProcessEnv {
  const share = Math.max(1, Math.floor(availableParallelism() / processes));
  return { OMP_NUM_THREADS: `${share}`, ...env };
}

/** Signals a rank and what it has started. */
function kill({ pid }: ChildProcess, signal: NodeJS.Signals): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, signal);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/**
 * A port of the loopback that nobody listens at. It lies below those that systems give to whoever asks for any, so that nobody is
 * given it before a rank listens there.
 */
export async function freePort(): Promise<number> {
  for (;;) {
    const port = randomInt(15_000, 32_000);
    const server = createServer();
    const isFree = await new Promise<boolean>((resolve) => {
      server.once('error', () => resolve(false));
      server.listen(port, '127.0.0.1', () => resolve(true));
    });
    if (!isFree) continue;
    await new Promise((resolve) => server.close(resolve));
    return port;
  }
}
