/** The runs of a folder: which there are, how they stand, how large they are. */
import { readdir, stat } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';

import { didYouMean } from '../../base/did-you-mean.js';
import { UsageError } from '../../base/errors.js';
import { errorCode } from '../../base/system-error.js';
import { curve, readMetrics } from './logs.js';
import { isRunInUse } from './run-folder.js';
import { readRunFacts, type RunFacts, type RunState } from './run-state.js';

export interface RunSummary extends Omit<RunFacts, 'state'> {
  path: string;
  /** `crashed`: it said that it was running, but no process is. */
  state: RunState | 'crashed';
  /** Training losses in order; NaN where the loss was not finite. */
  losses: number[];
  bytes: number;
}

/** All runs under `root`, newest first. A folder that is no run is passed over. */
export async function listRuns(root = 'runs'): Promise<RunSummary[]> {
  const runs: RunSummary[] = [];
  for (const name of await names(root)) {
    const run = await readRun(resolve(root, name));
    if (run !== undefined) runs.push(run);
  }
  return runs.sort((a, b) => (a.created < b.created ? 1 : -1));
}

/** The run in a folder, if it is one. */
export async function readRun(path: string): Promise<RunSummary | undefined> {
  const facts = await readRunFacts(path);
  return facts === undefined ? undefined : summary(path, facts);
}

/**
 * The folder of the run that `nameOrPath` means, or of the newest run when it is left out.
 *
 * @throws UsageError E_NO_RUN
 */
export async function findRun(nameOrPath?: string, root = 'runs'): Promise<string> {
  const runs = await listRuns(root);
  if (nameOrPath === undefined) {
    if (runs[0] !== undefined) return runs[0].path;
    throw noRun(`There is no run under ${resolve(root)}.`, 'Begin one with `patina train`.');
  }
  for (const path of [join(root, nameOrPath), nameOrPath]) {
    if ((await readRunFacts(path)) !== undefined) return resolve(path);
  }
  const names = runs.map(({ path }) => basename(path));
  const nearest = didYouMean(nameOrPath, names);
  const hint =
    nearest === undefined ? 'List the runs with `patina runs`.' : `Did you mean ${nearest}?`;
  throw noRun(`There is no run "${nameOrPath}" under ${resolve(root)}.`, hint);
}

async function summary(path: string, facts: RunFacts): Promise<RunSummary> {
  const crashed = facts.state === 'running' && !isRunInUse(path);
  const metrics = await readMetrics(join(path, 'metrics.jsonl')).catch(() => []);
  return {
    ...facts,
    path,
    state: crashed ? 'crashed' : facts.state,
    // The state is written at checkpoints; the metrics know of later updates.
    updates: Math.max(facts.updates, metrics.at(-1)?.update ?? 0),
    losses: curve(metrics, 'loss').map(({ y }) => y),
    bytes: await sizeOfFolder(path),
  };
}

async function sizeOfFolder(path: string): Promise<number> {
  let bytes = 0;
  for (const entry of await readdir(path, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue;
    const facts = await stat(join(entry.parentPath, entry.name)).catch(() => undefined);
    bytes += facts?.size ?? 0; // A file that has just been renamed or removed.
  }
  return bytes;
}

async function names(root: string): Promise<string[]> {
  try {
    return await readdir(root);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}

function noRun(message: string, hint: string): UsageError {
  return new UsageError(message, { code: 'E_NO_RUN', hint });
}
