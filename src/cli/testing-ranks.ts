/** For tests of several ranks: `patina` as it is typed, in processes of its own. */
import { spawn, type ChildProcess } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../base/native-path.js';
import type { RecipeInput } from '../config/index.js';
import { listCheckpoints, listRuns, type TrainEvent } from '../train/index.js';
import type { ColourFolder } from '../train/testing-files.js';

/** Steps that do not turn the last bit of a gradient into a whole one: for comparing ranks with one process. */
const OPTIMIZER = { learningRate: 3e-3, epsilon: 0.1 };

/** A file with the folder's recipe and such an optimizer. */
export function rankRecipe(folder: ColourFolder, more: Partial<RecipeInput> = {}): string {
  const path = folder.at('recipe.json');
  writeFileSync(path, JSON.stringify(folder.recipe({ optimizer: OPTIMIZER, ...more })));
  return path;
}

/** The arguments that train it. */
export function trainArgs(path: string, ...more: string[]): string[] {
  return ['train', path, '--json', ...more];
}

/** How it has ended, and the events that it has printed. */
export interface Ended {
  readonly code: number | null;
  readonly events: TrainEvent[];
  readonly err: string;
}

/** A `patina` under way. */
export class Running {
  readonly ended: Promise<Ended>;
  private readonly child: ChildProcess;

  constructor(args: readonly string[], env: Readonly<Record<string, string>> = {}) {
    const bin = join(packageRoot(), 'bin/patina.js');
    this.child = spawn(process.execPath, [bin, ...args], {
      env: { ...process.env, OMP_NUM_THREADS: '1', PATINA_RANK_TIMEOUT: '3', ...env },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let [out, err] = ['', ''];
    this.child.stdout!.on('data', (data) => (out += String(data)));
    this.child.stderr!.on('data', (data) => (err += String(data)));
    this.ended = new Promise((resolve) => {
      this.child.once('close', (code) => {
        const lines = out.split('\n').filter(Boolean);
        resolve({ code, err, events: lines.map((line) => JSON.parse(line) as TrainEvent) });
      });
    });
  }

  get pid(): number {
    return this.child.pid!;
  }

  /** Process ids of the ranks. */
  get ranks(): number[] {
    const children = readFileSync(`/proc/${this.pid}/task/${this.pid}/children`, 'utf8');
    return children.trim().split(' ').map(Number);
  }

  signal(signal: NodeJS.Signals): void {
    this.child.kill(signal);
  }
}

export const run = (args: readonly string[], env?: Record<string, string>): Promise<Ended> =>
  new Running(args, env).ended;

/** Updates of the newest run's checkpoints. */
export async function checkpointsUnder(runs: string): Promise<number[]> {
  const [newest] = await listRuns(runs);
  return (await listCheckpoints(join(newest!.path, 'checkpoints'))).map(({ update }) => update);
}

/** Resolves when a run has saved. */
export async function savedUnder(runs: string): Promise<void> {
  // The folders come one after another.
  const within = (folder: string): string[] => (existsSync(folder) ? readdirSync(folder) : []);
  const isThere = (): boolean =>
    within(runs).some((name) =>
      within(join(runs, name, 'checkpoints')).some((each) => /^update/.test(each)),
    );
  while (!isThere()) await new Promise((resolve) => setTimeout(resolve, 20));
}

export const isAlive = (pid: number): boolean => existsSync(`/proc/${pid}`);
