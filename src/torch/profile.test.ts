import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { busyTime, openRange, productOperations, scope, startProfile, zeros } from './index.js';

it('records operators, and writes a trace', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'profile-'));
  try {
    const path = join(folder, 'trace.json');
    const profile = startProfile('cpu');
    scope(() => void zeros([64, 64]).matmul(zeros([64, 64])));
    const activities = await profile.stop(path);
    const product = activities.find(({ name }) => name === 'aten::mm')!;
    expect(product).toMatchObject({ kind: 'operator' });
    expect(product.end).toBeGreaterThan(product.start);
    expect(await readFile(path, 'utf8')).toContain('traceEvents');
  } finally {
    await rm(folder, { recursive: true });
  }
});

it('refuses a second one', async () => {
  const profile = startProfile('cpu');
  expect(() => startProfile('cpu')).toThrow(expect.objectContaining({ code: 'E_PROFILE' }));
  const folder = await mkdtemp(join(tmpdir(), 'profile-'));
  await profile.stop(join(folder, 'trace.json'));
  await rm(folder, { recursive: true });
});

it('names stretches of the host by ranges, and tells shapes', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'profile-'));
  try {
    expect(openRange('before')).toBeUndefined();
    const profile = startProfile('cpu');
    const outer = openRange('forward', 'decoder.3')!;
    const inner = openRange('inner')!;
    scope(() => void zeros([4, 8]).matmul(zeros([8, 16])));
    // Not in order, as by programs that take turns.
    outer[Symbol.dispose]();
    inner[Symbol.dispose]();
    const activities = await profile.stop(join(folder, 'trace.json'));
    const ranges = activities.filter(({ kind }) => kind === 'range');
    expect(ranges.map(({ name }) => name)).toEqual(['forward decoder.3', 'inner']);
    const product = activities.find(({ name }) => name === 'aten::mm')!;
    expect(product.start).toBeGreaterThanOrEqual(ranges[0]!.start);
    expect(product.end).toBeLessThanOrEqual(ranges[0]!.end);
    expect(product.thread).toBe(ranges[0]!.thread);
    expect(productOperations(product.name, product.shapes)).toBe(2 * 4 * 8 * 16);
  } finally {
    await rm(folder, { recursive: true });
  }
});

it('is thrown away', async () => {
  startProfile('cpu').discard();
  expect(openRange('after')).toBeUndefined();
  const folder = await mkdtemp(join(tmpdir(), 'profile-'));
  const activities = await startProfile('cpu').stop(join(folder, 'trace.json'));
  expect(activities.filter(({ kind }) => kind === 'operator')).toEqual([]);
  await rm(folder, { recursive: true });
});

it('counts the time in which anything ran once', () => {
  const spans = [
    { start: 5, end: 7 },
    { start: 0, end: 2 },
    { start: 1, end: 3 },
    { start: 1.5, end: 1.75 },
  ];
  expect(busyTime(spans)).toBe(5);
  expect(busyTime([])).toBe(0);
});
