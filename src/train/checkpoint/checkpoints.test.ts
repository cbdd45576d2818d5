import fc from 'fast-check';
import {
  appendFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { mkdir, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import {
  bestCheckpoint,
  listCheckpoints,
  newestWhole,
  pruneCheckpoints,
  verifyCheckpoint,
  writeCheckpoint,
  type Checkpoint,
} from './checkpoints.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-checkpoints-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

function save(update: number, validationLoss?: number): Promise<Checkpoint> {
  return writeCheckpoint(folder, {
    update,
    validationLoss,
    write: async (path) => {
      await writeFile(join(path, 'model.safetensors'), `weights of ${update}`);
      await mkdir(join(path, 'optimizer'));
      await writeFile(join(path, 'optimizer', 'rank-0.bin'), Buffer.alloc(100, update));
    },
  });
}

const updates = async (): Promise<number[]> =>
  (await listCheckpoints(folder)).map(({ update }) => update);

describe('a checkpoint', () => {
  test('is written with a manifest and verifies', async () => {
    const checkpoint = await save(500, 1.5);
    expect(checkpoint.path).toBe(join(folder, 'update-00000500'));
    expect(checkpoint).toMatchObject({ update: 500, validationLoss: 1.5, bytes: 114 });
    expect(await verifyCheckpoint(checkpoint.path)).toEqual(checkpoint);
    const manifest = JSON.parse(readFileSync(join(checkpoint.path, 'manifest.json'), 'utf8')) as {
      files: object;
    };
    expect(Object.keys(manifest.files)).toEqual(['model.safetensors', 'optimizer/rank-0.bin']);
    expect(readdirSync(folder)).toEqual(['update-00000500']);
  });

  test('that fails while it is written leaves nothing, and the old one of that update', async () => {
    await save(1);
    for (const update of [1, 2]) {
      const failing = writeCheckpoint(folder, {
        update,
        write: async (path) => {
          await writeFile(join(path, 'half'), 'x');
          throw Object.assign(new Error('no space'), { code: 'ENOSPC' });
        },
      });
      await expect(failing).rejects.toMatchObject({ code: 'E_DISK_FULL', exitCode: 3 });
    }
    expect(readdirSync(folder)).toEqual(['update-00000001']);
    await verifyCheckpoint(join(folder, 'update-00000001'));
  });

  test('of the same update is replaced', async () => {
    await save(3, 9);
    expect(await save(3, 2)).toMatchObject({ validationLoss: 2 });
    expect(readdirSync(folder)).toEqual(['update-00000003']);
  });

  test('with any bit changed, any file missing or added, is refused by name', async () => {
    const { path } = await save(7);
    const files = ['model.safetensors', 'optimizer/rank-0.bin'];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...files), fc.nat(), fc.nat(7), async (file, at, bit) => {
        const whole = readFileSync(join(path, file));
        const damaged = Buffer.from(whole);
        damaged[at % whole.length]! ^= 1 << bit;
        writeFileSync(join(path, file), damaged);
        await expect(verifyCheckpoint(path)).rejects.toMatchObject({
          code: 'E_CHECKPOINT_BROKEN',
          exitCode: 4,
          message: expect.stringContaining(`${file} has changed`) as string,
        });
        writeFileSync(join(path, file), whole);
      }),
      { numRuns: 30 },
    );
    writeFileSync(join(path, 'more'), '');
    await expect(verifyCheckpoint(path)).rejects.toThrow('more does not belong to it');
    rmSync(join(path, 'more'));
    appendFileSync(join(path, files[0]!), 'x');
    await expect(verifyCheckpoint(path)).rejects.toThrow('has 13 bytes, not 12');
    rmSync(join(path, files[0]!));
    await expect(verifyCheckpoint(path)).rejects.toThrow('model.safetensors is missing');
    for (const text of ['{', '{}', '{"format":1,"update":1,"files":{"a":null}}', '[]', 'null']) {
      writeFileSync(join(path, 'manifest.json'), text);
      await expect(verifyCheckpoint(path)).rejects.toMatchObject({ code: 'E_CHECKPOINT_BROKEN' });
    }
  });
});

test('the list is in order of updates and passes over what is none', async () => {
  for (const update of [20, 3, 100_000_000]) await save(update);
  mkdirSync(join(folder, 'update-00000009'));
  mkdirSync(join(folder, 'notes'));
  expect(await updates()).toEqual([3, 20, 100_000_000]);
  expect(await listCheckpoints(join(folder, 'nowhere'))).toEqual([]);
});

test('a resumed run takes the newest whole one and tells of the damaged', async () => {
  expect(await newestWhole(folder)).toEqual({ checkpoint: undefined, damaged: [] });
  for (const update of [1, 2, 3]) await save(update);
  writeFileSync(join(folder, 'update-00000003/model.safetensors'), 'weights of X');
  const { checkpoint, damaged } = await newestWhole(folder);
  expect(checkpoint).toMatchObject({ update: 2 });
  expect(damaged.map(({ message }) => message)).toEqual([
    expect.stringContaining('update-00000003 is damaged: model.safetensors') as string,
  ]);
});

test('the newest and the best are kept, the rest and leftovers are removed', async () => {
  for (const [update, loss] of [
    [1, 3],
    [2, 1],
    [3, NaN],
    [4, 2],
    [5, undefined],
  ] as const) {
    await save(update, loss);
  }
  mkdirSync(join(folder, '.update-00000009.partial-1-abc'));
  const best = bestCheckpoint(await listCheckpoints(folder));
  expect(best).toMatchObject({ update: 2 });
  const removed = await pruneCheckpoints(folder, { keep: 2, keepBest: true, update: 5 });
  expect(removed).toEqual([1, 3].map((update) => join(folder, `update-0000000${update}`)));
  expect(readdirSync(folder)).toEqual(['update-00000002', 'update-00000004', 'update-00000005']);
  await pruneCheckpoints(folder, { keep: 1, keepBest: false, update: 5 });
  expect(await updates()).toEqual([5]);
});

test('the best by the score of a task, where the newest says so', async () => {
  const saved = async (
    update: number,
    pope: number | undefined,
    bestBy?: string,
  ): Promise<void> => {
    const scores = pope === undefined ? {} : { pope };
    const write = (path: string): Promise<void> => writeFile(join(path, 'a.bin'), 'weights');
    await writeCheckpoint(folder, { update, validationLoss: update, scores, bestBy, write });
  };
  await saved(1, 0.4, 'pope');
  await saved(2, 0.9, 'pope');
  await saved(3, 0.9, 'pope');
  await saved(4, 0.7, 'pope');
  await saved(5, undefined, 'pope');
  const best = async () => bestCheckpoint(await listCheckpoints(folder));
  expect(await best()).toMatchObject({ update: 3, scores: { pope: 0.9 }, bestBy: 'pope' });
  await pruneCheckpoints(folder, { keep: 1, keepBest: true, update: 5 });
  expect(await updates()).toEqual([3, 5]);
  await saved(6, 1);
  expect(await best()).toMatchObject({ update: 3, validationLoss: 3, bestBy: 'pope' });
  expect((await listCheckpoints(folder)).at(-1)).toMatchObject({ bestBy: null });
  const manifest = join(folder, 'update-00000006', 'manifest.json');
  writeFileSync(manifest, readFileSync(manifest, 'utf8').replace('"pope": 1', '"pope": "high"'));
  await expect(verifyCheckpoint(join(folder, 'update-00000006'))).rejects.toMatchObject({
    code: 'E_CHECKPOINT_BROKEN',
  });
});

test('later ones, before which a damaged run went back, take the place of none', async () => {
  for (const [update, loss] of [
    [2, 3],
    [4, 1],
    [3, 2],
  ] as const) {
    await save(update, loss);
  }
  await pruneCheckpoints(folder, { keep: 1, keepBest: true, update: 3 });
  expect(await updates()).toEqual([3]);
});
