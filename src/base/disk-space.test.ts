import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import { freeBytes, requireFree } from './disk-space.js';

test('freeBytes looks at the nearest folder that exists', async () => {
  const here = await freeBytes(tmpdir());
  expect(here).toBeGreaterThan(0);
  const there = await freeBytes(join(tmpdir(), 'not', 'there', 'yet'));
  expect(Math.abs(there - here)).toBeLessThan(2 ** 32);
});

test('requireFree is silent when there is room and typed when there is none', async () => {
  await requireFree(tmpdir(), 1, 'nothing much');
  await expect(requireFree(tmpdir(), 2 ** 60, 'two checkpoints')).rejects.toMatchObject({
    code: 'E_DISK_FULL',
    exitCode: 3,
    message: expect.stringContaining('1024 PiB are needed for two checkpoints') as string,
  });
});
