/** What earlier runs have measured, in `patina plan` and `patina train`. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { keepRun, readRuns, versionsHere } from '../plan/calibration/calibration-file.js';
import type { RunCalibration } from '../plan/calibration/run-calibration.js';
import { measuredRun } from '../plan/calibration/testing.js';
import type { Plan } from '../plan/plan.js';
import { SMALL } from '../plan/search/testing.js';
import type { TrainEvent } from '../train/index.js';
import { ColourFolder } from '../train/testing-files.js';
import { keepCalibration } from './calibration.js';
import type { Session } from './session.js';
import { patina } from './testing.js';

let folder: string;
let path: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-calibration-'));
  path = join(folder, 'calibration.json');
  vi.stubEnv('PATINA_CALIBRATION', path);
});
afterEach(() => {
  vi.unstubAllEnvs();
  rmSync(folder, { recursive: true });
});

const BROKEN = '{"format": "patina cal';
const CONTEXT = 2 ** 30;
const keep = () => keepRun(path, measuredRun({ ...versionsHere(), context: CONTEXT }));

describe('patina plan', () => {
  const planned = async (...more: string[]) => {
    const file = join(folder, 'small.json');
    writeFileSync(file, JSON.stringify(SMALL));
    const { code, out, err } = await patina('plan', file, '--gpus', 'A100-40GB', ...more);
    return { code, err, out };
  };
  const plan = async (): Promise<Plan> => JSON.parse((await planned('--json')).out) as Plan;
  const contextOf = ({ perRank: [rank] }: Plan): number => rank!.total - rank!.reserved;

  test('takes several runs on the card into account, and says so', async () => {
    const before = await plan();
    await keep();
    await keep();
    expect(await plan()).toEqual(before);
    await keep();
    const after = await plan();
    expect(contextOf(before)).not.toBe(CONTEXT);
    expect(contextOf(after)).toBe(CONTEXT);
    expect(after.accuracy.calibration).toMatchObject({ context: CONTEXT });
    const { out } = await planned();
    expect(out).toContain('the context is the least that earlier runs on this card saw');
    vi.stubEnv('PATINA_CALIBRATION', 'off');
    expect(await plan()).toEqual(before);
  });

  test('goes on without a file that holds something else, and says so', async () => {
    const before = await plan();
    writeFileSync(path, BROKEN);
    const { code, out, err } = await planned('--json');
    expect(code).toBe(0);
    expect(JSON.parse(out)).toMatchObject(before);
    expect(err).toContain(`warning: runs before this one do not count: ${path} holds no`);
    expect(err).toContain('hint: Remove the file');
  });
});

describe('patina train', () => {
  const session = () => {
    const said: string[] = [];
    const stderr = { write: (text: string) => said.push(text) };
    return { said, session: { stderr } as unknown as Session };
  };
  const measured = { result: () => measuredRun() } as unknown as RunCalibration;

  test('keeps what a run has measured', async () => {
    const { said, session: own } = session();
    await keepCalibration(measured, own);
    expect(await readRuns(path)).toEqual([measuredRun()]);
    await keepCalibration({ result: () => null } as unknown as RunCalibration, own);
    vi.stubEnv('PATINA_CALIBRATION', 'off');
    await keepCalibration(measured, own);
    vi.stubEnv('PATINA_CALIBRATION', path);
    expect(await readRuns(path)).toHaveLength(1);
    expect(said).toEqual([]);
  });

  test('but not in a file that holds something else', async () => {
    writeFileSync(path, BROKEN);
    const { said, session: own } = session();
    await keepCalibration(measured, own);
    expect(said.join('')).toContain('warning: what this run has measured is not kept:');
    expect(readFileSync(path, 'utf8')).toBe(BROKEN);
  });

  test('on the CPU has nothing to keep', async () => {
    const files = await ColourFolder.make();
    try {
      const recipe = files.at('recipe.json');
      writeFileSync(recipe, JSON.stringify(files.recipe({ schedule: { updates: 12 } })));
      const { code, err, out } = await patina('train', recipe, '--json');
      expect(code, err).toBe(0);
      const events = out.split('\n').filter(Boolean);
      const memory = events
        .map((line) => JSON.parse(line) as TrainEvent)
        .find((event) => event.type === 'memory')!;
      expect(Object.keys(memory.measured)).toEqual(['allocated', 'reserved']);
      expect(memory).not.toHaveProperty('seconds');
      expect(readdirSync(folder)).toEqual([]);
    } finally {
      files.remove();
    }
  });
});
