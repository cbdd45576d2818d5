/**
 * A lock between processes, kept as a file: whoever creates the file holds the lock.
 *
 * Node has no `flock`, so a lock can outlive its process. The file therefore names its holder (host, process, and on
 * Linux the moment the process began, since numbers are reused), and a lock whose holder is gone is taken over. A
 * holder on another host cannot be looked at; its sign of life is the file's time, renewed every few seconds.
 */
import {
  closeSync,
  openSync,
  readFileSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

import { errorCode } from './system-error.js';

/** Who holds a lock. */
export interface LockHolder {
  host: string;
  pid: number;
  /** When the process began, as Linux tells it; empty elsewhere. */
  started: string;
  /** When the lock was taken, ISO 8601. */
  since: string;
}

const HEARTBEAT = 15_000;
const FOREIGN_LIMIT = 600_000;
/** A file that is created but not yet filled, or a take-over under way, is over within this time. */
const SETTLE_LIMIT = 10_000;

/** A held lock; `release` gives it back. */
export class FileLock {
  readonly #path: string;
  readonly #content: string;
  readonly #heartbeat: NodeJS.Timeout;

  constructor(path: string, content: string) {
    this.#path = path;
    this.#content = content;
    this.#heartbeat = setInterval(() => this.#renew(), HEARTBEAT).unref();
  }

  /** Gives the lock back; harmless when repeated or when the file is gone. */
  release(): void {
    clearInterval(this.#heartbeat);
    if (read(this.#path) === this.#content) rmSync(this.#path, { force: true });
  }

  [Symbol.dispose](): void {
    this.release();
  }

  #renew(): void {
    const now = new Date();
    try {
      utimesSync(this.#path, now, now);
    } catch {
      // Somebody removed the file by hand; the work that it guards goes on.
    }
  }
}

/** Takes the lock at `path`, or tells who holds it. The folder must exist; errors of the file system are passed on. */
export function tryLock(path: string): FileLock | LockHolder {
  for (let attempt = 0; attempt < 3; attempt++) {
    const lock = create(path);
    if (lock !== undefined) return lock;
    const content = read(path);
    if (content === undefined) continue; // Released in between.
    const holder = livingHolder(content, path);
    if (holder !== undefined) return holder;
    takeAway(path, content);
  }
  return parse(read(path) ?? '') ?? UNKNOWN;
}

/** Who holds the lock at `path` now, or undefined if nobody who is alive does; takes nothing. */
export function lockHolder(path: string): LockHolder | undefined {
  const content = read(path);
  return content === undefined ? undefined : livingHolder(content, path);
}

/** Waits for the lock at `path`. `onWait` is told once who holds it. */
export async function waitForLock(
  path: string,
  {
    signal,
    onWait,
    interval = 500,
  }: {
    signal?: AbortSignal | undefined;
    onWait?: (holder: LockHolder) => void;
    /** Milliseconds between looks. @default 500 */
    interval?: number;
  } = {},
): Promise<FileLock> {
  for (let told = false; ;) {
    signal?.throwIfAborted();
    const lock = tryLock(path);
    if (lock instanceof FileLock) return lock;
    if (!told) onWait?.(lock);
    told = true;
    await sleep(interval, undefined, signal === undefined ? {} : { signal });
  }
}

const UNKNOWN: LockHolder = { host: 'unknown', pid: 0, started: '', since: '' };

function create(path: string): FileLock | undefined {
  const holder: LockHolder = {
    host: hostname(),
    pid: process.pid,
    started: startOf(process.pid),
    since: new Date().toISOString(),
  };
  const content = `${JSON.stringify(holder)}\n`;
  try {
    // `wx` fails if the file exists: of several processes exactly one creates it.
    writeFileSync(path, content, { flag: 'wx' });
    return new FileLock(path, content);
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return undefined;
    throw error;
  }
}

/** Removes a lock whose holder is gone; of several processes that see this, one at a time. */
function takeAway(path: string, staleContent: string): void {
  const guard = `${path}.takeover`;
  try {
    closeSync(openSync(guard, 'wx'));
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw error;
    if (isOlderThan(guard, SETTLE_LIMIT)) rmSync(guard, { force: true });
    return;
  }
  try {
    if (read(path) === staleContent) rmSync(path, { force: true });
  } finally {
    rmSync(guard, { force: true });
  }
}

function livingHolder(content: string, path: string): LockHolder | undefined {
  const holder = parse(content);
  if (holder === undefined) return isOlderThan(path, SETTLE_LIMIT) ? undefined : UNKNOWN;
  return isAlive(holder, path) ? holder : undefined;
}

function isAlive(holder: LockHolder, path: string): boolean {
  if (holder.host !== hostname()) return !isOlderThan(path, FOREIGN_LIMIT);
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  return holder.started === '' || holder.started === startOf(holder.pid);
}

/** Boot and start time of a process from `/proc` (field 22 of `stat`, after the name in brackets), or nothing. */
function startOf(pid: number): string {
  const stat = read(`/proc/${pid}/stat`);
  const ticks = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  const boot = read('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return ticks === undefined ? '' : `${boot}/${ticks}`;
}

function parse(content: string): LockHolder | undefined {
  try {
    const { host, pid, started, since } = JSON.parse(content) as Record<string, unknown>;
    if (typeof host !== 'string' || typeof pid !== 'number' || !(pid > 0)) return undefined;
    return { host, pid, started: String(started), since: String(since) };
  } catch {
    return undefined;
  }
}

function isOlderThan(path: string, milliseconds: number): boolean {
  try {
    return Date.now() - statSync(path).mtimeMs > milliseconds;
  } catch {
    return false;
  }
}

function read(path: string): string | undefined {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
