/** What runs have measured is kept whole, by one process at a time, and nothing else is touched. */
import fc from 'fast-check';
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { cases } from '../../base/testing.js';
import { readGpus } from '../devices/cards.js';
import type { MeasuredRun } from './calibration.js';
import {
  calibrationPath,
  keepRun,
  readCalibration,
  readRuns,
  versionsHere,
} from './calibration-file.js';
import { fullRecipe, measuredRun } from './testing.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-calibration-'));
  path = join(folder, 'new', 'calibration.json');
});
afterEach(() => rmSync(folder, { recursive: true }));

const kinds = (runs: readonly MeasuredRun[]): string[] => runs.map(({ kind }) => kind);

test.each<[NodeJS.ProcessEnv, string | null]>([
  [{ XDG_CACHE_HOME: '/cache' }, '/cache/patina/calibration.json'],
  [{ HOME: '/home/me' }, '/home/me/.cache/patina/calibration.json'],
  [{ PATINA_CALIBRATION: '/tmp/box.json' }, '/tmp/box.json'],
  [{ PATINA_CALIBRATION: 'off', XDG_CACHE_HOME: '/cache' }, null],
])('with %j it lies at %s', (env, expected) => {
  expect(calibrationPath(env)).toBe(expected);
});

test('a file that is not there holds no runs; one is made with its folder', async () => {
  expect(await readRuns(path)).toEqual([]);
  const run = measuredRun({ time: 1.05 });
  await keepRun(path, run);
  expect(await readRuns(path)).toEqual([run]);
  expect(readdirSync(join(folder, 'new'))).toEqual(['calibration.json']);
});

test('runs of this Patina and its libtorch count', async () => {
  const { card } = readGpus('A100-40GB');
  for (let i = 0; i < 3; i++) await keepRun(path, measuredRun(versionsHere()));
  const { time } = (await readCalibration(path)).of(card, fullRecipe(), 1);
  expect(time).toMatchObject({ runs: 3 });
});

test('those who write at the same time lose nothing', async () => {
  const names = Array.from({ length: 12 }, (_, i) => `kind ${i}`);
  await Promise.all(names.map((kind) => keepRun(path, measuredRun({ kind }))));
  expect(kinds(await readRuns(path)).sort()).toEqual(names.sort());
});

test('of many runs the newest stay, of each kind some and not too many in all', async () => {
  const full = Array.from({ length: 40 }, (_, i) => measuredRun({ time: 1 + i }));
  const format = { format: 'patina calibration 1' };
  await keepRun(path, measuredRun({ kind: 'lora, bf16' }));
  writeFileSync(path, JSON.stringify({ ...format, runs: [...(await readRuns(path)), ...full] }));
  await keepRun(path, measuredRun({ time: 99 }));
  const runs = await readRuns(path);
  expect(kinds(runs)[0]).toBe('lora, bf16');
  expect(runs.slice(1).map(({ time }) => time)).toEqual([
    ...full.slice(-14).map(({ time }) => time),
    99,
  ]);
  const many = Array.from({ length: 400 }, (_, i) => measuredRun({ kind: `kind ${i}` }));
  writeFileSync(path, JSON.stringify({ ...format, runs: many }));
  await keepRun(path, measuredRun());
  expect(await readRuns(path)).toHaveLength(300);
  expect(statSync(path).size).toBeLessThan(2 ** 17);
});

describe('a file that holds something else', () => {
  const good = { format: 'patina calibration 1', runs: [measuredRun()] };

  test.each<[string, string, RegExp]>([
    ['no JSON', '{"format": "patina cal', /JSON/],
    ['nothing', '', /JSON/],
    ['other JSON', '{"theme": "dark"}', /format/],
    ['a list', '[]', /object/],
    ['a later format', JSON.stringify({ ...good, format: 'patina calibration 2' }), /format/],
    [
      'a time that is none',
      JSON.stringify({ ...good, runs: [measuredRun({ time: -1 })] }),
      /runs\[0\]\.time/,
    ],
    ['far too much', ' '.repeat(2 ** 19), /524288 bytes/],
  ])('%s is told of, and stays as it is', async (_, content, why) => {
    const file = join(folder, 'odd.json');
    writeFileSync(file, content);
    const refused = { code: 'E_CALIBRATION', message: expect.stringMatching(why) as string };
    await expect(readRuns(file)).rejects.toMatchObject(refused);
    await expect(keepRun(file, measuredRun())).rejects.toMatchObject(refused);
    expect(readFileSync(file, 'utf8')).toBe(content);
    expect(readdirSync(folder)).toEqual(['odd.json']);
  });

  test('whatever it is, is read or refused', async () => {
    const file = join(folder, 'odd.json');
    const text = fc.oneof(
      fc.string(),
      fc.json(),
      fc
        .record({
          format: fc.constantFrom('patina calibration 1', 'other'),
          runs: fc.anything(),
        })
        .map((value) => JSON.stringify(value)),
    );
    await fc.assert(
      fc.asyncProperty(text, async (content) => {
        writeFileSync(file, content);
        const outcome = await readRuns(file).catch((error: unknown) => error);
        if (!Array.isArray(outcome)) expect(outcome).toMatchObject({ code: 'E_CALIBRATION' });
      }),
      { numRuns: cases(100) },
    );
  });

  test('a folder cannot be read or written', async () => {
    await expect(readRuns(folder)).rejects.toMatchObject({ code: 'E_CALIBRATION' });
    const under = join(folder, 'file', 'calibration.json');
    writeFileSync(join(folder, 'file'), '');
    await expect(keepRun(under, measuredRun())).rejects.toMatchObject({ code: 'E_UNWRITABLE' });
  });
});
