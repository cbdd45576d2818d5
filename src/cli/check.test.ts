/** `patina check` as a command: what it is given, what it prints, how it ends. */
import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { stringify } from 'yaml';

import { FaultFolder, healthy, look, talk } from '../guard/check/testing.js';
import { patina } from './testing.js';

let folder: FaultFolder;
let good: string;
let bad: string;
beforeAll(async () => {
  folder = new FaultFolder();
  const picture = await folder.picture('noise.png');
  good = folder.records(healthy(picture));
  bad = folder.records(
    [...healthy(picture), look('x', 'nowhere.png'), talk('y', 'q', ' ')],
    'bad.jsonl',
  );
  folder.write('recipe.yaml', stringify(folder.recipe()));
  folder.write('recipe.json', JSON.stringify(folder.recipe()));
});
afterAll(() => folder.remove());

const parsed = (out: string): Record<string, unknown>[] =>
  out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

test('data without a model: findings, then a summary; exit code 4 for an error', async () => {
  const { code, out, err } = await patina('check', bad, '--json');
  expect({ code, err }).toEqual({ code: 4, err: '' });
  expect(parsed(out)).toMatchObject([
    {
      type: 'finding',
      cause: 'broken-image',
      severity: 'error',
      source: bad,
      line: 7,
      id: 'x',
      count: 1,
    },
    { type: 'finding', cause: 'empty-answer', severity: 'error', line: 8, id: 'y', count: 1 },
    { type: 'summary', records: 8, bad: 2, pictures: 3, errors: 2, warnings: 0, counted: false },
  ]);
});

test('in words: each kind with its places and what to do, lengths drawn, the count at the end', async () => {
  const { code, out } = await patina('check', bad);
  expect(code).toBe(4);
  expect(out).toMatch(
    /^error: broken-image\n {2}\S+bad\.jsonl:7, id "x": .*nowhere\.png: there is no such file\n {2}> Check/,
  );
  expect(out).toMatch(/length in tokens \(about .*█/s);
  expect(out).toContain('not checked: the model and tokens: no model was given (--model)');
  expect(out).toMatch(
    /2 records with errors, 0 with warnings alone; 2 kinds of errors, 0 of warnings\.\n$/,
  );
});

test.each([
  ['data alone', () => [good]],
  ['data with a model', () => [good, '--model', folder.at('model')]],
  ['a recipe', () => [folder.at('recipe.yaml')]],
  [
    'a recipe in JSON with other data',
    () => [folder.at('recipe.json'), '--data', good, '--limit', '3'],
  ],
])('healthy: %s; exit code 0', async (_, args) => {
  const { code, out, err } = await patina('check', ...args());
  expect({ code, err }).toEqual({ code: 0, err: '' });
  expect(out).toMatch(/Nothing found\.\n$/);
});

test('a recipe with threads of its own, as it is by default, finds the same', async () => {
  const args = ['check', folder.at('recipe.yaml'), '--data', bad, '--json'];
  const [one, two] = await Promise.all([patina(...args, '--threads', '1'), patina(...args)]);
  const plain = (out: string): unknown => parsed(out).map((each) => ({ ...each, seconds: 0 }));
  expect(plain(two.out)).toEqual(plain(one.out));
  expect(one.code).toBe(4);
});

test.each([
  ['no such file', () => [folder.at('none.jsonl')], 4, 'E_PATH_MISSING'],
  ['no such recipe', () => [folder.at('none.yaml')], 2, 'E_RECIPE_MISSING'],
  ['a wrong field', () => [folder.at('recipe.yaml'), '--set', 'text.maxLenght=3'], 2, ''],
  ['no model at that place', () => [good, '--model', folder.at('nothing')], 4, 'E_PATH_MISSING'],
])('what cannot be checked is an error like anywhere: %s', async (_, args, exit, code) => {
  const ended = await patina('check', ...args());
  expect(ended.err).toContain(`code: ${code}`);
  expect(ended).toMatchObject({ code: exit, out: '' });
});

test.each([
  ['that is not there', 'MISSING', (file: string) => rmSync(file)],
  ['that is no JSON', 'BROKEN', (file: string) => writeFileSync(file, '{')],
])(
  'a tokenizer %s is a finding, and records are looked at as without a model',
  async (_, code, damage) => {
    const model = folder.at(`model-${code}`);
    cpSync(folder.at('model'), model, { recursive: true });
    damage(join(model, 'tokenizer.json'));
    const { code: exit, out, err } = await patina('check', bad, '--model', model, '--json');
    expect({ exit, err }).toEqual({ exit: 4, err: '' });
    const [first, ...others] = parsed(out);
    expect(first).toMatchObject({
      ...{ type: 'finding', cause: 'unknown', code: `E_TOKENIZER_${code}`, severity: 'error' },
      message: expect.stringContaining(model) as string,
    });
    const notChecked = ['the model and tokens: first mend what is broken'];
    expect(others).toMatchObject([
      { cause: 'broken-image' },
      { cause: 'empty-answer' },
      { type: 'summary', records: 8, errors: 3, notChecked },
    ]);
  },
);

test('a run that begins tells what its first records and its recipe have, and trains', async () => {
  const args = [
    '--set',
    'optimizer.clipNorm=null',
    '--set',
    'data.badRecords=skip',
    '--max-updates',
    '1',
  ];
  const { code, out } = await patina(
    'train',
    folder.at('recipe.yaml'),
    '--data',
    bad,
    '--json',
    ...args,
  );
  expect(code).toBe(0);
  const events = parsed(out);
  expect(events).toContainEqual({ type: 'loading', what: 'checking the first records' });
  const found = events.filter(({ type }) => type === 'finding');
  expect(found).toMatchObject([
    { cause: 'broken-image', severity: 'error', source: bad, line: 7, id: 'x', count: 1 },
    { cause: 'empty-answer', severity: 'error', line: 8 },
    { cause: 'no-clipping', severity: 'warning', source: null },
  ]);
  const types = events.map(({ type }) => type);
  expect(types.indexOf('finding')).toBeGreaterThan(types.indexOf('start'));
});
