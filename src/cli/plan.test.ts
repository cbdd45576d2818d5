/** `patina plan`: suggestions and questions, on a small model that is described in the recipe. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';

import type { Plan } from '../plan/plan.js';
import type { Suggestion } from '../plan/search/search.js';
import { SMALL } from '../plan/search/testing.js';
import { patina } from './testing.js';

const folder = mkdtempSync(join(tmpdir(), 'patina-plan-'));
const file = join(folder, 'small.json');
writeFileSync(file, JSON.stringify(SMALL));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

const planned = (...more: string[]) => patina('plan', file, '--gpus', '2xA100-40GB', ...more);

interface Shown extends Plan {
  suggestions: Suggestion[];
}

test('a run that fits has no suggestions unless they are asked for', async () => {
  const { code, out } = await planned('--json');
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ fits: true, suggestions: [] });
});

test('asked for, they are lines that can be set', async () => {
  const { code, out } = await planned('--json', '--suggest');
  expect(code).toBe(0);
  const { suggestions, seconds } = JSON.parse(out) as Shown;
  const [first] = suggestions;
  expect(first!.secondsPerUpdate).toBeLessThan(seconds.update);
  const sets = first!.set.flatMap((line) => ['--set', line]);
  const again = JSON.parse((await planned('--json', ...sets)).out) as Shown;
  expect(again.perRank[0]).toMatchObject({ allocated: first!.allocated, total: first!.total });
});

test('where nothing fits that is said, with exit code 5', async () => {
  const { code, out } = await planned('--set', 'memory.limit=0.001');
  expect(code).toBe(5);
  expect(out).toContain('does not fit');
  expect(out).toContain('take more GPUs');
});

test.each([
  ['--largest', 'batch', ['batchSize=8']],
  ['--fewest', 'gpus', []],
])('%s %s is answered by a plan', async (option, question, set) => {
  const { code, out } = await planned(option, question, '--json');
  expect(code).toBe(0);
  expect(JSON.parse(out)).toMatchObject({ question, set, fits: true });
});

test('one question at a time', async () => {
  const { code, err } = await planned('--largest', 'batch', '--fewest', 'gpus');
  expect(code).toBe(2);
  expect(err).toContain('E_PLAN_QUESTION');
});
