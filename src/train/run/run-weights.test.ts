import { mkdtempSync, rmSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { writeCheckpoint } from '../checkpoint/checkpoints.js';
import { RunFolder } from './run-folder.js';
import { weightsIn } from './run-weights.js';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'patina-run-weights-'));
});
afterEach(() => rmSync(root, { recursive: true }));

test("a run's folder stands for its best checkpoint, else the newest; other names for themselves", async () => {
  const run = await RunFolder.create({ root, recipe: 'tiny', resolved: {}, environment: {} });
  run.close();
  await expect(weightsIn(run.path)).rejects.toMatchObject({ code: 'E_NO_CHECKPOINT', exitCode: 4 });
  const save = async (update: number, validationLoss?: number): Promise<string> => {
    const write = (path: string): Promise<void> => writeFile(join(path, 'x'), String(update));
    return (await writeCheckpoint(run.checkpoints, { update, validationLoss, write })).path;
  };
  await save(1);
  const newest = await save(2);
  expect(await weightsIn(run.path)).toBe(newest);
  const best = await save(3, 1.5);
  await save(4, 1.7);
  expect(await weightsIn(run.path)).toBe(best);
  for (const name of [best, root, 'organisation/name', undefined])
    expect(await weightsIn(name)).toBe(name);
});
