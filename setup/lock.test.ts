import { mkdtempSync, readFileSync, rmSync, utimesSync, writeFileSync, existsSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { withLock } from './lock.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-lock-'));
  path = join(folder, 'setup.lock');
});
afterEach(() => rmSync(folder, { recursive: true }));

const holder = (fields: object): string =>
  JSON.stringify({ pid: process.pid, host: hostname(), started: '', ...fields });

describe('withLock', () => {
  it('holds the lock during the work and gives it back, also after an error', async () => {
    const answer = await withLock(path, () => Promise.resolve(readFileSync(path, 'utf8')));
    expect(JSON.parse(answer)).toMatchObject({ pid: process.pid, host: hostname() });
    expect(existsSync(path)).toBe(false);
    await expect(withLock(path, () => Promise.reject(new Error('no')))).rejects.toThrow('no');
    expect(existsSync(path)).toBe(false);
  });

  it('runs one after the other, and tells once who is waited for', async () => {
    const order: string[] = [];
    const waits: string[] = [];
    const work = (name: string) => async (): Promise<void> => {
      order.push(`${name} begins`);
      await sleep(30);
      order.push(`${name} ends`);
    };
    const onWait = (who: string): unknown => waits.push(who);
    await Promise.all(
      ['a', 'b'].map((name) => withLock(path, work(name), { onWait, interval: 5 })),
    );
    expect(order).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
    expect(waits).toEqual([`process ${process.pid}`]);
  });

  it.each([
    ['of a process that is gone', holder({ pid: 2 ** 22 + 1 })],
    ['whose number another process has now', holder({ started: '1' })],
  ])('breaks a lock %s', async (_name, content) => {
    if (content.includes('"started":"1"') && process.platform !== 'linux') return;
    writeFileSync(path, content);
    expect(await withLock(path, () => Promise.resolve('done'))).toBe('done');
  });

  it.each([
    ['on another machine', holder({ host: 'elsewhere' })],
    ['that cannot be read', 'nonsense'],
  ])('breaks a lock %s only when it has been silent for long', async (_name, content) => {
    writeFileSync(path, content);
    let waited = false;
    const onWait = (): void => {
      waited = true;
      utimesSync(path, 1, 1);
    };
    await withLock(path, () => Promise.resolve(), { onWait, interval: 5 });
    expect(waited).toBe(true);
  });
});
