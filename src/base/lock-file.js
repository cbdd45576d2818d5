/**
 * A lock between processes, kept as a file: whoever creates the file holds the lock.
 *
 * Node has no `flock`, so a lock can outlive its process. The file therefore names its holder (host, process, and on
 * Linux the moment the process began, since numbers are reused), and a lock whose holder is gone is taken over. A
 * holder on another host cannot be looked at; its sign of life is the file's time, renewed every few seconds.
 *
 * Plain JavaScript, since the set-up, which runs before anything is compiled, takes the same lock.
 */
import { randomUUID } from 'node:crypto';
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

import { errorCode } from './error-code.js';

/**
 * Who holds a lock.
 *
 * @typedef {object} LockHolder
 * @property {string} host
 * @property {number} pid
 * @property {string} started When the process began, as Linux tells it; empty elsewhere.
 * @property {string} since When the lock was taken, ISO 8601.
 */

const HEARTBEAT = 15_000;
const FOREIGN_LIMIT = 600_000;
/** A file that is created but not yet filled, or a take-over under way, is over within this time. */
const SETTLE_LIMIT = 10_000;

/** A held lock; `release` gives it back. */
export class FileLock {
  /** @readonly @type {string} */
  #path;
  /** @readonly @type {string} */
  #content;
  /** @readonly @type {NodeJS.Timeout} */
  #heartbeat;

  /**
   * @param {string} path
   * @param {string} content
   */
  constructor(path, content) {
    this.#path = path;
    this.#content = content;
    this.#heartbeat = setInterval(() => this.#renew(), HEARTBEAT).unref();
  }

  /** Gives the lock back; harmless when repeated or when the file is gone. */
  release() {
    clearInterval(this.#heartbeat);
    if (read(this.#path) === this.#content) rmSync(this.#path, { force: true });
  }

  [Symbol.dispose]() {
    this.release();
  }

  #renew() {
    const now = new Date();
    try {
      utimesSync(this.#path, now, now);
    } catch {
      // Somebody removed the file by hand; the work that it guards goes on.
    }
  }
}

/**
 * Takes the lock at `path`, or tells who holds it. The folder must exist; errors of the file system are passed on.
 *
 * @param {string} path
 * @returns {FileLock | LockHolder}
 */
export function tryLock(path) {
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

/**
 * Who holds the lock at `path` now, or undefined if nobody who is alive does; takes nothing.
 *
 * @param {string} path
 * @returns {LockHolder | undefined}
 */
export function lockHolder(path) {
  const content = read(path);
  return content === undefined ? undefined : livingHolder(content, path);
}

/**
 * Waits for the lock at `path`.
 *
 * @param {string} path
 * @param {object} [options]
 * @param {AbortSignal | undefined} [options.signal]
 * @param {(holder: LockHolder) => void} [options.onWait] Told once who holds it.
 * @param {number} [options.interval] Milliseconds between looks. @default 500
 * @returns {Promise<FileLock>}
 */
export async function waitForLock(path, { signal, onWait, interval = 500 } = {}) {
  for (let told = false; ;) {
    signal?.throwIfAborted();
    const lock = tryLock(path);
    if (lock instanceof FileLock) return lock;
    if (!told) onWait?.(lock);
    told = true;
    await sleep(interval, undefined, signal === undefined ? {} : { signal });
  }
}

/** @type {LockHolder} */
const UNKNOWN = { host: 'unknown', pid: 0, started: '', since: '' };

/**
 * @param {string} path
 * @returns {FileLock | undefined}
 */
function create(path) {
  /** @type {LockHolder} */
  const holder = {
    host: hostname(),
    pid: process.pid,
    started: startOf(process.pid),
    since: new Date().toISOString(),
  };
  // With an id: a process may take, give back and take again within one tick of the clock.
  const content = `${JSON.stringify({ ...holder, id: randomUUID() })}\n`;
  try {
    // `wx` fails if the file exists: of several processes exactly one creates it.
    writeFileSync(path, content, { flag: 'wx' });
    return new FileLock(path, content);
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return undefined;
    throw error;
  }
}

/**
 * Removes a lock whose holder is gone; of several processes that see this, one at a time.
 *
 * @param {string} path
 * @param {string} staleContent
 */
function takeAway(path, staleContent) {
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

/**
 * @param {string} content
 * @param {string} path
 * @returns {LockHolder | undefined}
 */
function livingHolder(content, path) {
  const holder = parse(content);
  if (holder === undefined) return isOlderThan(path, SETTLE_LIMIT) ? undefined : UNKNOWN;
  return isAlive(holder, path) ? holder : undefined;
}

/**
 * @param {LockHolder} holder
 * @param {string} path
 */
function isAlive(holder, path) {
  if (holder.host !== hostname()) return !isOlderThan(path, FOREIGN_LIMIT);
  try {
    process.kill(holder.pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  return holder.started === '' || holder.started === startOf(holder.pid);
}

/**
 * Boot and start time of a process from `/proc` (field 22 of `stat`, after the name in brackets), or nothing.
 *
 * @param {number} pid
 */
function startOf(pid) {
  const stat = read(`/proc/${pid}/stat`);
  const ticks = stat?.slice(stat.lastIndexOf(')') + 2).split(' ')[19];
  const boot = read('/proc/sys/kernel/random/boot_id')?.trim() ?? '';
  return ticks === undefined ? '' : `${boot}/${ticks}`;
}

/**
 * @param {string} content
 * @returns {LockHolder | undefined}
 */
function parse(content) {
  try {
    const { host, pid, started, since } = JSON.parse(content);
    if (typeof host !== 'string' || typeof pid !== 'number' || !(pid > 0)) return undefined;
    return { host, pid, started: String(started), since: String(since) };
  } catch {
    return undefined;
  }
}

/**
 * @param {string} path
 * @param {number} milliseconds
 */
function isOlderThan(path, milliseconds) {
  try {
    return Date.now() - statSync(path).mtimeMs > milliseconds;
  } catch {
    return false;
  }
}

/**
 * @param {string} path
 * @returns {string | undefined}
 */
function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}
