import { spawn } from 'node:child_process';
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { hostname, tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { findRun, listRuns } from './list-runs.js';
import { readMetrics } from './logs.js';
import { readRunRecipe, RunFolder, type CreateRunOptions } from './run-folder.js';

let root: string;
let options: CreateRunOptions;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'patina-runs-'));
  options = { root, recipe: 'tiny', resolved: { seed: 1 }, environment: { node: '20' } };
});
afterEach(() => {
  chmodSync(root, 0o755);
  rmSync(root, { recursive: true });
});

describe('a new run', () => {
  test('gets a folder with all that is known at its start', async () => {
    const run = await RunFolder.create({ ...options, now: new Date(2026, 0, 31, 23, 59, 5) });
    expect(basename(run.path)).toBe('tiny-20260131-235905');
    expect(readdirSync(run.path).sort()).toEqual([
      'checkpoints',
      'environment.json',
      'events.jsonl',
      'metrics.jsonl',
      'recipe.json',
      'run.lock',
      'state.json',
    ]);
    expect(await readRunRecipe(run.path)).toEqual({ seed: 1 });
    run.close();
    expect(readdirSync(run.path)).not.toContain('run.lock');
  });

  test('never shares a folder, even within the same second', async () => {
    const now = new Date();
    const runs = await Promise.all([1, 2, 3].map(() => RunFolder.create({ ...options, now })));
    expect(new Set(runs.map(({ path }) => path)).size).toBe(3);
    for (const run of runs) run.close();
  });

  test('does not overwrite a run of the same name', async () => {
    (await RunFolder.create({ ...options, name: 'mine' })).close();
    await expect(RunFolder.create({ ...options, name: 'mine' })).rejects.toMatchObject({
      code: 'E_RUN_EXISTS',
      exitCode: 2,
    });
    for (const name of ['../x', 'a/b', '..', '']) {
      await expect(RunFolder.create({ ...options, name })).rejects.toMatchObject({
        code: 'E_RUN_NAME',
      });
    }
  });

  test('that cannot be written is a typed error and leaves nothing', async () => {
    writeFileSync(join(root, 'file'), '');
    await expect(
      RunFolder.create({ ...options, root: join(root, 'file', 'runs') }),
    ).rejects.toMatchObject({ code: 'E_UNWRITABLE', exitCode: 3 });
    const circular: Record<string, unknown> = {};
    circular['self'] = circular;
    await expect(RunFolder.create({ ...options, resolved: circular })).rejects.toThrow(TypeError);
    expect(readdirSync(root)).toEqual(['file']);
  });

  test.skipIf(process.getuid?.() === 0)('in a folder without rights is a typed error', async () => {
    chmodSync(root, 0o555);
    await expect(RunFolder.create(options)).rejects.toMatchObject({ code: 'E_UNWRITABLE' });
  });
});

describe('a run that goes on', () => {
  test('is refused while another process holds it, by name of that process', async () => {
    const run = await RunFolder.create(options);
    await expect(RunFolder.open(run.path)).rejects.toMatchObject({
      code: 'E_RUN_IN_USE',
      exitCode: 3,
      message: expect.stringContaining(`process ${process.pid} on ${hostname()}`) as string,
    });
    run.close();
    const again = await RunFolder.open(run.path);
    expect(again.facts).toMatchObject({ recipe: 'tiny', state: 'running' });
    again.close();
  });

  test('can be taken over from a process that was killed', async () => {
    const run = await RunFolder.create(options);
    run.close();
    const child = spawn(process.execPath, ['-e', '']);
    await new Promise((resolve) => child.once('exit', resolve));
    const holder = { host: hostname(), pid: child.pid, started: '', since: '' };
    writeFileSync(join(run.path, 'run.lock'), JSON.stringify(holder));
    (await RunFolder.open(run.path)).close();
  });

  test('must be one', async () => {
    await expect(RunFolder.open(root)).rejects.toMatchObject({ code: 'E_NO_RUN', exitCode: 2 });
    const run = await RunFolder.create(options);
    writeFileSync(join(run.path, 'recipe.json'), '{');
    await expect(readRunRecipe(run.path)).rejects.toMatchObject({
      code: 'E_RUN_BROKEN',
      exitCode: 4,
    });
    run.close();
  });

  test('forgets the metrics beyond the point that it went back to', async () => {
    const run = await RunFolder.create(options);
    for (const update of [1, 2, 3, 4]) run.metrics.write({ update, loss: update });
    run.metrics.write({ update: 3, loss: 30 });
    run.metrics.write({ note: 'no update' });
    run.close();
    const metrics = await readMetrics(join(run.path, 'metrics.jsonl'));
    expect(metrics.map(({ update, loss }) => [update, loss])).toEqual([
      [1, 1],
      [2, 2],
      [3, 30],
    ]);
  });
});

describe('the list of runs', () => {
  test('tells state, updates, losses and size, newest first', async () => {
    const old = await RunFolder.create({ ...options, name: 'old', now: new Date(2025, 1, 1) });
    old.metrics.write({ update: 1, loss: 2 });
    old.metrics.write({ update: 2, loss: NaN });
    await old.setState('failed', { updates: 1, reason: 'loss is NaN' });
    old.close();
    const live = await RunFolder.create({ ...options, name: 'live', plannedUpdates: 9 });
    const dead = await RunFolder.create({ ...options, name: 'dead', now: new Date(2024, 1, 1) });
    dead.close();
    writeFileSync(join(root, 'notes.txt'), 'no run');
    const runs = await listRuns(root);
    live.close();
    expect(runs.map(({ name, state }) => [name, state])).toEqual([
      ['live', 'running'],
      ['old', 'failed'],
      ['dead', 'crashed'],
    ]);
    expect(runs[1]).toMatchObject({ updates: 2, losses: [2, NaN], reason: 'loss is NaN' });
    expect(runs[0]).toMatchObject({ plannedUpdates: 9, losses: [] });
    const size = readFileSync(join(root, 'old/state.json')).length;
    expect(runs[1]!.bytes).toBeGreaterThan(size);
    expect(await listRuns(join(root, 'nowhere'))).toEqual([]);
  });

  test('finds a run by name, by path, or the newest', async () => {
    await expect(findRun(undefined, root)).rejects.toMatchObject({ code: 'E_NO_RUN' });
    const a = await RunFolder.create({ ...options, name: 'llava-a', now: new Date(2025, 1, 1) });
    const b = await RunFolder.create({ ...options, name: 'llava-b', now: new Date(2025, 1, 2) });
    a.close();
    b.close();
    expect(await findRun(undefined, root)).toBe(b.path);
    expect(await findRun('llava-a', root)).toBe(a.path);
    expect(await findRun(a.path, 'elsewhere')).toBe(a.path);
    await expect(findRun('lava-a', root)).rejects.toMatchObject({
      code: 'E_NO_RUN',
      hint: 'Did you mean llava-a?',
    });
  });
});
