import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { FileLock, lockHolder, tryLock, waitForLock, type LockHolder } from './lock-file.js';

let folder: string;
let path: string;

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-lock-'));
  path = join(folder, 'x.lock');
});
afterEach(() => rmSync(folder, { recursive: true }));

/** The number of a process that has just ended. */
async function deadPid(): Promise<number> {
  const child = spawn(process.execPath, ['-e', '']);
  await new Promise((resolve) => child.once('exit', resolve));
  return child.pid!;
}

function leave(holder: Partial<LockHolder>): void {
  const all = { host: hostname(), pid: process.pid, started: '', since: '2026-01-01', ...holder };
  writeFileSync(path, JSON.stringify(all));
}

describe('tryLock', () => {
  test('gives the lock once, names the holder to others, and again after release', () => {
    const first = tryLock(path);
    expect(first).toBeInstanceOf(FileLock);
    expect(tryLock(path)).toMatchObject({ host: hostname(), pid: process.pid });
    (first as FileLock).release();
    expect(lockHolder(path)).toBeUndefined();
    const second = tryLock(path);
    expect(second).toBeInstanceOf(FileLock);
    (first as FileLock).release(); // Must not release what others hold.
    expect(tryLock(path)).not.toBeInstanceOf(FileLock);
  });

  test('that was given back is another one, also within one tick of the clock', () => {
    vi.useFakeTimers({ toFake: ['Date'] });
    try {
      const first = tryLock(path) as FileLock;
      first.release();
      expect(tryLock(path)).toBeInstanceOf(FileLock);
      first.release();
      expect(tryLock(path)).not.toBeInstanceOf(FileLock);
    } finally {
      vi.useRealTimers();
    }
  });

  test('takes over from a process that is gone', async () => {
    leave({ pid: await deadPid() });
    expect(lockHolder(path)).toBeUndefined();
    expect(tryLock(path)).toBeInstanceOf(FileLock);
    expect(lockHolder(path)).toMatchObject({ pid: process.pid });
  });

  test.runIf(process.platform === 'linux')('takes over when the number was reused', () => {
    leave({ started: 'another boot/1' });
    expect(tryLock(path)).toBeInstanceOf(FileLock);
  });

  test('believes in another host as long as it shows signs of life', () => {
    leave({ host: 'elsewhere', pid: 1 });
    expect(tryLock(path)).toMatchObject({ host: 'elsewhere' });
    utimesSync(path, 0, 0);
    expect(tryLock(path)).toBeInstanceOf(FileLock);
  });

  test('gives a half-written lock file time, then takes it over', () => {
    writeFileSync(path, '');
    expect(tryLock(path)).toMatchObject({ host: 'unknown' });
    utimesSync(path, 0, 0);
    expect(tryLock(path)).toBeInstanceOf(FileLock);
  });

  test('a take-over that died half-way does not block for ever', async () => {
    leave({ pid: await deadPid() });
    writeFileSync(`${path}.takeover`, '');
    expect(tryLock(path)).not.toBeInstanceOf(FileLock);
    utimesSync(`${path}.takeover`, 0, 0);
    expect(tryLock(path)).toBeInstanceOf(FileLock);
  });
});

describe('waitForLock', () => {
  test('waits for the holder and tells about it once', async () => {
    const first = tryLock(path) as FileLock;
    const told: LockHolder[] = [];
    const waiting = waitForLock(path, { interval: 5, onWait: (holder) => told.push(holder) });
    setTimeout(() => first.release(), 30);
    (await waiting).release();
    expect(told).toHaveLength(1);
  });

  test('ends when aborted', async () => {
    expect(tryLock(path)).toBeInstanceOf(FileLock);
    const waiting = waitForLock(path, { interval: 5, signal: AbortSignal.timeout(20) });
    await expect(waiting).rejects.toThrow();
    expect(readFileSync(path, 'utf8')).toContain('"pid"');
  });
});
