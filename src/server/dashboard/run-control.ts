/** Stops, saves and resumes runs as the command line does. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { UsageError } from '../../base/errors.js';
import type { LockHolder } from '../../base/lock-file.js';
import { packageRoot } from '../../base/native-path.js';
import { isRunInUse, runHolder } from '../../train/run/run-folder.js';
import { SAVE_SIGNAL } from '../../train/run/save-request.js';

/** What the buttons of one page do, which may be pressed twice. */
export class RunControl {
  /** Whom it has told to stop, by folder. */
  private readonly stopped = new Map<string, string>();
  /** Folders of runs that are about to go on. */
  private readonly resuming = new Set<string>();

  /**
   * As Ctrl-C: the update is finished and saved. Once only, since a second Ctrl-C would break that off.
   *
   * @throws UsageError `E_NOT_RUNNING`, `E_OTHER_HOST`, `E_STOPPING`
   */
  stop(folder: string): void {
    const { pid, since } = holderOf(folder);
    const holder = `${pid} ${since}`;
    if (this.stopped.get(folder) === holder) {
      throw new UsageError(`The run in ${folder} has been told to stop: it finishes and saves.`, {
        code: 'E_STOPPING',
        hint: `Wait for it; \`kill -INT ${pid}\` ends it without a checkpoint.`,
      });
    }
    process.kill(pid, 'SIGINT');
    this.stopped.set(folder, holder);
  }

  /** A checkpoint after the update that is under way. @throws UsageError `E_NOT_RUNNING`, `E_OTHER_HOST` */
  save(folder: string): void {
    process.kill(holderOf(folder).pid, SAVE_SIGNAL);
  }

  /**
   * Goes on with a run in a process of its own, which outlives this one; what it says is in `logs/resumed.log` of the run.
   *
   * @param ranks how many ranks it had
   * @throws UsageError `E_RUN_IN_USE`, or `E_RESUME` with what it said where it ends at once
   */
  async resume(folder: string, ranks: number): Promise<void> {
    if (isRunInUse(folder) || this.resuming.has(folder)) {
      throw new UsageError(`A process trains in ${folder} already.`, {
        code: 'E_RUN_IN_USE',
        hint: 'Stop it first.',
      });
    }
    this.resuming.add(folder);
    try {
      await resumeInBackground(folder, ranks);
    } finally {
      this.resuming.delete(folder);
    }
  }
}

function holderOf(folder: string): LockHolder {
  const holder = runHolder(folder);
  if (holder === undefined) {
    throw new UsageError(`No process trains in ${folder}.`, {
      code: 'E_NOT_RUNNING',
      hint: 'It has ended; resume it to train on.',
    });
  }
  if (holder.host !== hostname()) {
    throw new UsageError(`${folder} is trained by process ${holder.pid} on ${holder.host}.`, {
      code: 'E_OTHER_HOST',
      hint: 'Open the page on that machine to stop or save it.',
    });
  }
  return holder;
}

/** How long a run that goes on is watched for what hinders it, in milliseconds. */
const WATCHED = 20_000;

/** Returns when it holds the run. */
async function resumeInBackground(folder: string, ranks: number): Promise<void> {
  mkdirSync(join(folder, 'logs'), { recursive: true });
  const log = join(folder, 'logs', 'resumed.log');
  const output = openSync(log, 'w');
  const args = ['train', `--resume=${folder}`, ...(ranks > 1 ? ['--nproc', `${ranks}`] : [])];
  const child = spawn(process.execPath, [join(packageRoot(), 'bin', 'patina.js'), ...args], {
    cwd: await startedIn(folder),
    detached: true,
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  child.unref();
  const ended = new AbortController();
  const end = once(child, 'exit').then(([code]) => {
    ended.abort();
    return code as number | null;
  });
  for (let waited = 0; waited < WATCHED && !isRunInUse(folder); waited += 200) {
    await sleep(200, undefined, { signal: ended.signal }).catch(() => undefined);
    if (!ended.signal.aborted) continue;
    const said = readFileSync(log, 'utf8').trim();
    throw new UsageError(
      `The run did not go on (exit code ${String(await end)}): ${said.slice(-2000)}`,
      {
        code: 'E_RESUME',
        hint: `All that it said is in ${log}.`,
      },
    );
  }
}

/** The folder in which the run was begun: relative paths of its recipe are from there. */
export async function startedIn(run: string): Promise<string> {
  try {
    const facts = JSON.parse(await readFile(join(run, 'environment.json'), 'utf8')) as object;
    if ('folder' in facts && typeof facts.folder === 'string') return facts.folder;
  } catch {
    // From here, then.
  }
  return process.cwd();
}
