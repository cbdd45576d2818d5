import { existsSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import type { World } from '../../parallel/index.js';
import { holdRun } from './held-run.js';
import { Ranks } from './ranks.js';
import { RunFolder } from './run-folder.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'patina-ranks-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** The first of two ranks, of which the other tells what `other` makes of what this one tells. */
function first(other: (label: string, own: unknown) => unknown): Ranks {
  const exchange = (label: string, own: unknown) => Promise.resolve([own, other(label, own)]);
  return new Ranks({ rank: 0, size: 2, exchange } as unknown as World);
}

test('ranks that were given the same go on', async () => {
  await first((_, own) => structuredClone(own)).requireSame('recipe', { seed: 1, train: {} });
});

test.each([
  ['another value', { seed: 1, optimizer: { learningRate: 2 } }, 'optimizer.learningRate'],
  ['one that is missing', { seed: 1, optimizer: {} }, 'optimizer.learningRate'],
  ['one more', { seed: 1, optimizer: { learningRate: 1 }, data: ['x'] }, 'data'],
])('%s on one rank is refused by its place', async (_what, theirs, where) => {
  const own = { seed: 1, optimizer: { learningRate: 1 } };
  await expect(first(() => theirs).requireSame('recipe', own)).rejects.toMatchObject({
    code: 'E_RANKS_DIFFER',
    message: `Rank 1 has another recipe than rank 0: ${where} differs.`,
  });
});

test('a new run folder that a rank does not see goes again', async () => {
  const blind = first((label, own) =>
    label === 'whether the run folder is seen' ? { seen: false, host: 'elsewhere' } : own,
  );
  const make = () =>
    RunFolder.create({ recipe: 'r', resolved: {}, environment: {}, root, name: 'a' });
  await expect(holdRun(blind, make, { makes: true })).rejects.toMatchObject({
    code: 'E_RUN_UNSEEN',
    message: expect.stringContaining('rank 1 on elsewhere') as string,
  });
  expect(existsSync(join(root, 'a'))).toBe(false);
});
