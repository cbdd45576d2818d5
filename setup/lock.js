/**
 * One set-up at a time: a lock file that names its holder. Node has no `flock`, so the lock of a process that is gone is
 * broken by the next one. The lock saves double work; that nothing is half used rests on renaming (see files.js).
 */
import {
  mkdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { hostname } from 'node:os';
import { dirname } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';

import { errorCode } from './errors.js';

const HEARTBEAT = 5_000;
/** A holder on another machine (a shared disk) counts as gone when it has not touched its lock for this long. */
const SILENCE = 120_000;

/**
 * Runs `work` while holding the lock.
 *
 * @template T
 * @param {string} path
 * @param {() => Promise<T>} work
 * @param {object} [options]
 * @param {(holder: string) => void} [options.onWait] Told once who holds the lock.
 * @param {number} [options.interval] Milliseconds between looks.
 * @returns {Promise<T>}
 */
export async function withLock(path, work, { onWait, interval = 300 } = {}) {
  mkdirSync(dirname(path), { recursive: true });
  const mine = JSON.stringify({
    pid: process.pid,
    host: hostname(),
    started: startOf(process.pid),
  });
  for (let told = false; !take(path, mine);) {
    const holder = readText(path);
    if (holder !== undefined && isGone(holder, path)) {
      breakLock(path, holder);
      continue;
    }
    if (!told) onWait?.(describe(holder ?? ''));
    told = true;
    await sleep(interval);
  }
  const heartbeat = setInterval(() => touch(path), HEARTBEAT).unref();
  try {
    return await work();
  } finally {
    clearInterval(heartbeat);
    if (readText(path) === mine) rmSync(path, { force: true });
  }
}

/**
 * @param {string} path
 * @param {string} content
 */
function take(path, content) {
  try {
    // `wx` fails if the file exists: of several processes exactly one creates it.
    writeFileSync(path, content, { flag: 'wx' });
    return true;
  } catch (error) {
    if (errorCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/**
 * @param {string} path
 * @param {string} stale
 */
function breakLock(path, stale) {
  const aside = `${path}.${process.pid}.stale`;
  try {
    renameSync(path, aside);
    const moved = readText(aside) ?? '';
    // Another waiter may have broken the stale lock and taken a fresh one between our look and our move: give it back.
    if (moved !== stale) take(path, moved);
  } catch (error) {
    if (errorCode(error) !== 'ENOENT') throw error;
  } finally {
    rmSync(aside, { force: true });
  }
}

/**
 * @param {string} holder
 * @param {string} path
 */
function isGone(holder, path) {
  const { pid, host, started } = parse(holder);
  if (host !== hostname()) return isSilent(path);
  try {
    process.kill(pid, 0);
  } catch (error) {
    return errorCode(error) === 'ESRCH';
  }
  // The number lives, but may belong to another process by now.
  return started !== '' && started !== startOf(pid);
}

/** @param {string} path */
function isSilent(path) {
  const modified = statSync(path, { throwIfNoEntry: false })?.mtimeMs;
  return modified !== undefined && Date.now() - modified > SILENCE;
}

/** @param {string} holder */
function describe(holder) {
  const { pid, host } = parse(holder);
  return host === hostname() ? `process ${pid}` : `process ${pid} on ${host}`;
}

/**
 * @param {string} holder
 * @returns {{ pid: number, host: string, started: string }}
 */
function parse(holder) {
  try {
    const { pid, host, started } = JSON.parse(holder);
    if (Number.isInteger(pid) && pid > 0) {
      return { pid, host: String(host), started: String(started) };
    }
  } catch {
    // Not a lock of ours: treated as a foreign one, gone when silent.
  }
  return { pid: 0, host: '', started: '' };
}

/**
 * When a process began, from `/proc` (field 22 of `stat`, after the name in brackets); empty elsewhere.
 *
 * @param {number} pid
 */
function startOf(pid) {
  const stat = readText(`/proc/${pid}/stat`) ?? '';
  return stat.slice(stat.lastIndexOf(')') + 2).split(' ')[19] ?? '';
}

/** @param {string} path */
function readText(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return undefined;
  }
}

/** @param {string} path */
function touch(path) {
  const now = new Date();
  try {
    utimesSync(path, now, now);
  } catch {
    // Somebody removed the lock by hand; the work goes on.
  }
}
