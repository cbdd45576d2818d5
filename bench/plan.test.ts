/** `bench/plan.ts` from its command line, as built. Needs what `npm run build` makes. */
import { execFile } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { packageRoot } from '../src/base/native-path.js';
import type { PlanRow } from './plan-summary.js';

const folder = mkdtempSync(join(tmpdir(), 'patina-plan-'));
afterAll(() => rmSync(folder, { recursive: true }));

const PLAN = join(packageRoot(), 'dist/bench/plan.js');

function bench(...args: readonly string[]): Promise<{ code: number; out: string; err: string }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [PLAN, ...args, '--device', 'cpu'], (error, out, err) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err });
    });
  });
}

function rowsIn(out: string): PlanRow[] {
  const lines = out.split('\n').filter(Boolean);
  return lines.map((line) => JSON.parse(line) as PlanRow);
}

test('rows with a limit share a card as far as it suffices; what others disturb is left out', async () => {
  const file = join(folder, 'limits.json');
  const model = { layers: 1, hidden: 512, text: true };
  const row = (name: string, limitGiB: number) => {
    return { name, model, batch: [{ text: 9 }], updates: 2, limitGiB };
  };
  writeFileSync(file, JSON.stringify([row('a', 3), row('b', 0.1)]));
  const { code, out, err } = await bench(file, '--together', '6');
  expect(code).toBe(0);
  const rows = rowsIn(out).toSorted((x, y) => x.name.localeCompare(y.name));
  expect(rows).toMatchObject([
    { name: 'a', measured: { allocated: expect.any(Number) as number, seconds: null } },
    { name: 'b', measured: { failed: 'out of memory' } },
  ]);
  expect(err).toContain('verdicts: 2 of 2 right');
  expect(err).not.toContain('seconds');
});

test.each(['x', '-1'])('--together=%s is told to be no amount', async (amount) => {
  const { code, out, err } = await bench('rows.json', `--together=${amount}`);
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toContain(`--together ${amount}: that is no amount`);
});

test('a configuration that cannot be planned is told, and is no result', async () => {
  const [file, results] = [join(folder, 'rows.json'), join(folder, 'rows.jsonl')];
  const batch = [{ text: 9 }];
  writeFileSync(
    file,
    JSON.stringify([
      { name: 'odd', batch, set: { 'train.decodr': 'full' } },
      { name: 'too narrow', batch, model: { hidden: 1000 } },
      { name: 'no batch' },
    ]),
  );
  const { code, out, err } = await bench(file, '--results', results);
  expect(rowsIn(out).map(({ name, predicted }) => [name, predicted])).toEqual([
    ['no batch', null],
    ['odd', null],
    ['too narrow', null],
  ]);
  expect(err).toMatch(/^failed: no batch: .*rows\.json:1:\d+: 2\.batch/m);
  expect(err).toMatch(/^failed: odd: .*train\.decodr/m);
  expect(code).toBe(1);
  writeFileSync(results, '{"name": "a"');
  const again = await bench(file, '--results', results);
  expect(again).toMatchObject({ code: 2, out: '' });
  expect(again.err).toContain('rows.jsonl:1: no row');
});

test('memory that does not suffice to ranks is an answer too', async () => {
  const file = join(folder, 'ranks.json');
  const model = { layers: 1, hidden: 512, text: true };
  const row = { name: 'tight', model, batch: [{ text: 9 }], ranks: 2, limitGiB: 0.1 };
  writeFileSync(file, JSON.stringify([row]));
  const { code, out, err } = await bench(file);
  expect(rowsIn(out)).toMatchObject([{ measured: { failed: 'out of memory' } }]);
  expect(err).toContain('verdicts: 1 of 1 right');
  expect(code).toBe(0);
});
