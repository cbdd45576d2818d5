import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { busyTime, scope, startProfile, zeros } from './index.js';

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
