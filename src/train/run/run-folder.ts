/**
 * The folder of a run:
 *
 *     state.json         what it is and how it stands        metrics.jsonl    one line per update
 *     recipe.json        the recipe, resolved                events.jsonl     everything else that happened
 *     environment.json   machine, versions, command          tensorboard/     the same curves for TensorBoard
 *     provenance.json    what it stands on                   run.lock         while a process works in it
 *     checkpoints/       see checkpoints.ts                  profile/         traces, where they were asked for
 */
import { existsSync } from 'node:fs';
import { mkdir, readFile, rm } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';

import { DataError, EnvironmentError, UsageError } from '../../base/errors.js';
import { JsonLinesWriter } from '../../base/json-lines.js';
import { jsonText } from '../../base/json-text.js';
import { FileLock, lockHolder, type LockHolder, tryLock } from '../../base/lock-file.js';
import { errorCode, writeError } from '../../base/system-error.js';
import { writeWholeFile } from '../../base/whole-file.js';
import { requireWritable } from '../../base/writable.js';
import { PROVENANCE, type Provenance, provenanceText } from '../../models/provenance/provenance.js';
import { readRunFacts, writeRunFacts, type RunFacts, type RunState } from './run-state.js';

export interface CreateRunOptions {
  /** Name of the recipe; begins the name of the folder. */
  recipe: string;
  /** The recipe with all its defaults, as it is trained. */
  resolved: object;
  /** Facts about machine and versions. */
  environment: object;
  /** Where runs lie. @default 'runs' */
  root?: string;
  /** Name of the folder. @default `<recipe>-<date>-<time>` */
  name?: string | undefined;
  plannedUpdates?: number;
  now?: Date;
}

const MAKING = 'make the run folder';

/** A run folder that this process holds; `close` gives it back. */
export class RunFolder {
  readonly path: string;
  readonly metrics: JsonLinesWriter;
  readonly events: JsonLinesWriter;
  readonly #lock: FileLock;
  #facts: RunFacts;

  private constructor(path: string, lock: FileLock, facts: RunFacts) {
    this.path = path;
    this.#lock = lock;
    this.#facts = facts;
    this.metrics = new JsonLinesWriter(join(path, 'metrics.jsonl'));
    this.events = new JsonLinesWriter(join(path, 'events.jsonl'));
  }

  /**
   * Refuses a new run before any work where its folder could not be made.
   *
   * @throws as `create`
   */
  static async requirePlace({
    root = 'runs',
    name,
  }: Pick<CreateRunOptions, 'root' | 'name'>): Promise<void> {
    if (name !== undefined) requireName(name);
    const path = name === undefined ? undefined : resolve(root, name);
    if (path !== undefined && existsSync(path)) throw isTaken(path);
    await requireWritable(resolve(root), MAKING, 'parent');
  }

  /**
   * Makes the folder of a new run, whole or not at all.
   *
   * @throws UsageError E_RUN_NAME, E_RUN_EXISTS
   * @throws EnvironmentError E_UNWRITABLE, E_DISK_FULL
   */
  static async create(options: CreateRunOptions): Promise<RunFolder> {
    const { recipe, resolved, environment, root = 'runs', name, plannedUpdates } = options;
    const now = options.now ?? new Date();
    if (name !== undefined) requireName(name);
    const path = await makeFolder(resolve(root), name, `${recipe}-${timestamp(now)}`);
    let lock: FileLock | undefined;
    try {
      lock = claim(path);
      const created = now.toISOString();
      const facts: RunFacts = {
        name: basename(path),
        recipe,
        state: 'running',
        created,
        changed: created,
        updates: 0,
        ...(plannedUpdates !== undefined && { plannedUpdates }),
      };
      await mkdir(join(path, 'checkpoints'));
      await writeWholeFile(join(path, RECIPE), jsonText(resolved));
      await writeWholeFile(join(path, 'environment.json'), jsonText(environment));
      await writeRunFacts(path, facts);
      return new RunFolder(path, lock, facts);
    } catch (error) {
      lock?.release();
      await rm(path, { recursive: true, force: true });
      throw writeError(error, path, MAKING);
    }
  }

  /**
   * Takes hold of the run in `path` to go on with it. Its state stays as it is until it is set.
   *
   * @throws UsageError E_NO_RUN if there is none
   * @throws EnvironmentError E_RUN_IN_USE, E_UNWRITABLE
   */
  static async open(path: string): Promise<RunFolder> {
    const folder = resolve(path);
    const facts = await requireRun(folder);
    let lock: FileLock | undefined;
    try {
      lock = claim(folder);
      return new RunFolder(folder, lock, facts);
    } catch (error) {
      lock?.release();
      throw writeError(error, folder, 'open the run folder');
    }
  }

  get checkpoints(): string {
    return join(this.path, 'checkpoints');
  }

  get tensorboard(): string {
    return join(this.path, 'tensorboard');
  }

  get facts(): RunFacts {
    return this.#facts;
  }

  /**
   * Begins to train on. The recipe takes the place of the one before, so that going on once more follows what was changed.
   *
   * @throws EnvironmentError E_UNWRITABLE, E_DISK_FULL
   */
  async resume(resolved: object, plannedUpdates: number): Promise<void> {
    try {
      await writeWholeFile(join(this.path, RECIPE), jsonText(resolved));
    } catch (error) {
      throw writeError(error, this.path, 'write the recipe of the run');
    }
    await this.setState('running', { plannedUpdates });
  }

  /** Keeps what the run stands on. @throws EnvironmentError E_UNWRITABLE, E_DISK_FULL */
  async keepProvenance(provenance: Provenance): Promise<void> {
    try {
      await writeWholeFile(join(this.path, PROVENANCE), provenanceText(provenance));
    } catch (error) {
      throw writeError(error, this.path, 'write what the run stands on');
    }
  }

  /** Tells everybody else how the run stands. */
  async setState(
    state: RunState,
    {
      updates,
      plannedUpdates,
      reason,
    }: Partial<Pick<RunFacts, 'updates' | 'plannedUpdates' | 'reason'>> = {},
  ): Promise<void> {
    const facts: RunFacts = {
      ...this.#facts,
      state,
      changed: new Date().toISOString(),
      ...(updates !== undefined && { updates }),
      ...(plannedUpdates !== undefined && { plannedUpdates }),
      ...(reason !== undefined && { reason }),
    };
    if (reason === undefined) delete facts.reason;
    this.#facts = facts;
    try {
      await writeRunFacts(this.path, this.#facts);
    } catch (error) {
      throw writeError(error, this.path, 'write the state of the run');
    }
  }

  /** Lets go of the folder. */
  close(): void {
    this.metrics.close();
    this.events.close();
    this.#lock.release();
  }
}

/**
 * The resolved recipe that a run was made with, not yet checked.
 *
 * @throws UsageError E_NO_RUN; DataError E_RUN_BROKEN
 */
export async function readRunRecipe(run: string): Promise<unknown> {
  await requireRun(resolve(run));
  const path = join(resolve(run), RECIPE);
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (cause) {
    throw new DataError(`${path} cannot be read.`, {
      code: 'E_RUN_BROKEN',
      hint: 'Begin a new run with the recipe, from the last checkpoint of this one.',
      cause,
    });
  }
}

async function requireRun(folder: string): Promise<RunFacts> {
  const facts = await readRunFacts(folder);
  if (facts !== undefined) return facts;
  throw new UsageError(`${folder} is not the folder of a run: it has no readable state.json.`, {
    code: 'E_NO_RUN',
    hint: 'List the runs with `patina runs`.',
  });
}

/** Whether a living process works in the run folder. */
export function isRunInUse(path: string): boolean {
  return runHolder(path) !== undefined;
}

/** The living process that works in the run folder. */
export function runHolder(path: string): LockHolder | undefined {
  return lockHolder(join(path, LOCK));
}

const LOCK = 'run.lock';
const RECIPE = 'recipe.json';

function claim(path: string): FileLock {
  const lock = tryLock(join(path, LOCK));
  if (lock instanceof FileLock) return lock;
  throw new EnvironmentError(
    `The run folder ${path} is in use by process ${lock.pid} on ${lock.host}, since ${lock.since}.`,
    {
      code: 'E_RUN_IN_USE',
      hint: `Wait for it, stop it, or train into another folder; if that machine is gone, remove ${join(path, LOCK)}.`,
    },
  );
}

async function makeFolder(
  root: string,
  name: string | undefined,
  fallback: string,
): Promise<string> {
  try {
    await mkdir(root, { recursive: true });
    for (let attempt = 1; ; attempt++) {
      const path = join(root, name ?? (attempt === 1 ? fallback : `${fallback}-${attempt}`));
      try {
        await mkdir(path);
        return path;
      } catch (error) {
        if (errorCode(error) !== 'EEXIST') throw error;
        if (name === undefined) continue; // Two runs of one recipe in the same second.
        throw isTaken(path);
      }
    }
  } catch (error) {
    throw writeError(error, root, MAKING);
  }
}

/** @throws UsageError `E_RUN_NAME` */
function requireName(name: string): void {
  if (name === basename(name) && !/^\.*$/.test(name)) return;
  throw new UsageError(`"${name}" cannot name a run: it must be one folder's name.`, {
    code: 'E_RUN_NAME',
    hint: 'Choose a name without slashes.',
  });
}

function isTaken(path: string): UsageError {
  return new UsageError(`The run folder ${path} exists already.`, {
    code: 'E_RUN_EXISTS',
    hint: 'Go on with it by --resume, or choose another name.',
  });
}

/** `20260131-235959`, local time. */
function timestamp(date: Date): string {
  const local = new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString();
  return local.slice(0, 19).replace(/[-:]/g, '').replace('T', '-');
}
