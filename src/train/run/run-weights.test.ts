import {
  mkdtempSync,
  openSync,
  renameSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

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

test.each<[string, (manifest: string) => void]>([
  ['gone', (manifest) => rmSync(manifest)],
  ['cut off', (manifest) => truncateSync(manifest, 20)],
])('a run whose newest manifest is %s does not stand for older weights', async (_, damage) => {
  const run = await RunFolder.create({ root, recipe: 'tiny', resolved: {}, environment: {} });
  run.close();
  const write = (path: string): Promise<void> => writeFile(join(path, 'x'), 'x');
  await writeCheckpoint(run.checkpoints, { update: 2, write });
  const { path } = await writeCheckpoint(run.checkpoints, { update: 4, write });
  damage(join(path, 'manifest.json'));
  await expect(weightsIn(run.path)).rejects.toMatchObject({
    code: 'E_CHECKPOINT_BROKEN',
    message: expect.stringContaining('update-00000004') as string,
  });
  // Once the run has gone on from the older one, that is what it stands for.
  const after = await writeCheckpoint(run.checkpoints, { update: 6, write });
  expect(await weightsIn(run.path)).toBe(after.path);
});

describe('a checkpoint that is read', () => {
  const LARGE = 2 ** 25 + 1;
  let path: string;
  beforeEach(async () => {
    const write = async (folder: string): Promise<void> => {
      await writeFile(join(folder, 'config.json'), '{"a": 1}');
      await writeFile(join(folder, 'trainer.json'), '{}');
      await writeFile(join(folder, 'model.safetensors'), '');
      truncateSync(join(folder, 'model.safetensors'), LARGE);
    };
    ({ path } = await writeCheckpoint(root, { update: 1, write }));
  });
  const broken = { code: 'E_CHECKPOINT_BROKEN', exitCode: 4 };

  test('is as it was written, with what was put beside it', async () => {
    writeFileSync(join(path, 'README.md'), 'mine');
    expect(await weightsIn(path)).toBe(path);
    expect(await weightsIn(path, { thorough: true })).toBe(path);
    const weights = join(path, 'model.safetensors');
    expect(await weightsIn(weights)).toBe(weights);
  });

  test.each<[string, () => void]>([
    ['a small file that was changed', () => writeFileSync(join(path, 'config.json'), '{"a": 2}')],
    ['a file that is gone', () => rmSync(join(path, 'config.json'))],
    ['weights that are cut off', () => truncateSync(join(path, 'model.safetensors'), 99)],
    ['a manifest that is none', () => writeFileSync(join(path, 'manifest.json'), '{')],
  ])('is refused with %s, as is each file of it', async (_name, spoil) => {
    spoil();
    for (const name of [path, join(path, 'model.safetensors')]) {
      await expect(weightsIn(name)).rejects.toMatchObject(broken);
    }
  });

  test('has its weights hashed where that is asked for', async () => {
    writeSync(openSync(join(path, 'model.safetensors'), 'r+'), 'x', 1000);
    expect(await weightsIn(path)).toBe(path);
    await expect(weightsIn(path, { thorough: true })).rejects.toMatchObject(broken);
  });

  test("that was copied under another name has its weights checked, and the rest is its owner's", async () => {
    const copy = join(root, 'mine');
    renameSync(path, copy);
    writeFileSync(join(copy, 'config.json'), 'changed');
    expect(await weightsIn(copy)).toBe(copy);
    truncateSync(join(copy, 'model.safetensors'), 99);
    await expect(weightsIn(copy)).rejects.toMatchObject(broken);
    rmSync(join(copy, 'model.safetensors'));
    expect(await weightsIn(copy)).toBe(copy);
  });

  test('is like any folder without its manifest, or where the manifest is not of ours', async () => {
    writeFileSync(join(path, 'config.json'), 'changed');
    rmSync(join(path, 'trainer.json'));
    expect(await weightsIn(path)).toBe(path);
    rmSync(join(path, 'manifest.json'));
    expect(await weightsIn(path)).toBe(path);
  });
});
