/** `patina plan`: suggestions and questions, on a small model that is described in the recipe. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test, vi } from 'vitest';

import type { Plan } from '../plan/plan.js';
import type { Suggestion } from '../plan/search/search.js';
import { SMALL } from '../plan/search/testing.js';
import { ColourFolder } from '../train/testing-files.js';
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
  expect(out).toMatch(/; memory\.limit 1\.02 MiB\): does not fit/);
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

test('--html and --svg write files that need no others', async () => {
  const [html, svg] = [join(folder, 'new', 'plan.html'), join(folder, 'plan.svg')];
  const { code, out, err } = await planned('--html', html, '--svg', svg, '--json');
  expect(code, err).toBe(0);
  expect(readFileSync(svg, 'utf8')).toMatch(/^<svg .*<\/svg>\n$/s);
  // They may be drawn again.
  expect((await planned('--html', html, '--svg', svg, '--json')).code).toBe(0);
  const page = readFileSync(html, 'utf8');
  expect(page).toMatch(/^<!doctype html>/);
  expect(page).toContain('<svg ');
  // They are no part of what is printed.
  expect(JSON.parse(out)).not.toHaveProperty('moments');
});

test.each<[string, string[], number, string]>([
  ['a folder in place of a file', ['--svg', folder], 3, 'E_UNWRITABLE'],
  ['a file in place of a folder', ['--html', join(file, 'plan.html')], 3, 'E_UNWRITABLE'],
  ['one file for both', ['--html', 'a', '--svg', './a'], 2, 'E_SAME_FILE'],
  ['the recipe itself', ['--html', file], 2, 'E_PLAN_FIGURE'],
  ['a question', ['--html', 'a', '--fewest', 'gpus'], 2, 'E_PLAN_FIGURE'],
])('%s is refused', async (_, flags, expected, word) => {
  const { code, err } = await planned(...flags);
  expect({ code, err }).toMatchObject({
    code: expected,
    err: expect.stringContaining(word) as string,
  });
});

describe('--data', () => {
  let colours: ColourFolder;
  let recipe: string;
  beforeAll(async () => {
    colours = await ColourFolder.make();
    recipe = colours.at('colours.json');
    writeFileSync(recipe, JSON.stringify(colours.recipe()));
    vi.stubEnv('XDG_CACHE_HOME', colours.at('cache'));
  });
  afterAll(() => {
    vi.unstubAllEnvs();
    colours.remove();
  });
  const run = (...more: string[]) => patina('plan', recipe, '--gpus', 'A100-40GB', ...more);

  test('counts the records of the recipe, and keeps the lengths', async () => {
    const { code, out, err } = await run('--data');
    expect(code, err).toBe(0);
    expect(out).toMatch(/the heaviest of 10 updates of the data/);
    expect(out).toMatch(/13 records of \d+ tokens on average \(99 % up to \d+, longest \d+\)/);
    expect(out).toMatch(/5 updates an epoch, 10 in all/);
    expect(readdirSync(colours.at('cache', 'patina', 'lengths'))).toHaveLength(2);
    const { data, seconds } = JSON.parse((await run('--data', '--json')).out) as Shown;
    expect(data).toMatchObject({ records: 13, leftOut: 0, recordsPerEpoch: 10, updates: 10 });
    expect(seconds.run).toBeCloseTo(10 * seconds.update, 10);
  });

  test('or of a file in their place', async () => {
    const { out } = await run('--data', colours.at('one.jsonl'), '--json');
    expect((JSON.parse(out) as Shown).data).toMatchObject({ records: 7, recordsPerEpoch: 7 });
  });

  test('without it nothing is said of them', async () => {
    const { out } = await run('--json');
    expect(JSON.parse(out)).toMatchObject({ data: null, seconds: { run: null } });
  });

  test('a file that is not there, and a question about other lengths, are refused', async () => {
    const missing = await run('--data', colours.at('none.jsonl'));
    expect(missing.code).toBe(4);
    expect(missing.err).toContain('none.jsonl');
    const asked = await run('--data', '--longest', 'sample');
    expect(asked.code).toBe(2);
    expect(asked.err).toContain('E_PLAN_QUESTION');
  });
});
