/** What cannot be written is told before the work: here each command would fail at it, were it to begin. */
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { RunFolder } from '../train/run/run-folder.js';
import { patina } from './testing.js';

let folder: string;
const at = (...parts: string[]): string => join(folder, ...parts);
const tree = (): string[] => readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'patina-targets-'));
  writeFileSync(at('file'), '');
  writeFileSync(at('questions.jsonl'), '{"question_id": 1, "text": "q", "answer": "a"}\n');
  const recipe = {
    name: 'small',
    model: { from: at('no-model') },
    data: { sources: [at('no-data.json')] },
    optimizer: { learningRate: 1e-5 },
    run: { root: at('file', 'runs') },
  };
  writeFileSync(at('recipe.json'), JSON.stringify(recipe));
  const run = { recipe: 'small', resolved: recipe, environment: {}, root: at('runs'), name: 'run' };
  (await RunFolder.create(run)).close();
});
afterAll(() => rmSync(folder, { recursive: true }));

test.each<[string, () => string[]]>([
  ['plan --html', () => ['plan', 'quickstart', '--html', at('file', 'x')]],
  ['plan --svg', () => ['plan', 'quickstart', '--svg', at('file', 'x')]],
  ['doctor --html', () => ['doctor', at('runs', 'run'), '--html', at('file', 'x')]],
  ['eval --scores', () => asked(at('no-data.json'), '--scores', at('file', 'x'))],
  ['eval --submission', () => asked(at('no-data.json'), '--submission', at('file', 'x'))],
  ['eval --answers', () => asked(at('questions.jsonl'), '--answers', at('file', 'x'))],
  ['show --out', () => ['show', ...NONE, '--image', at('no.png'), '--out', at('file', 'x.png')]],
  ['export', () => ['export', at('no-model'), '--to', 'hf', at('file', 'x')]],
  ['check --fix', () => ['check', at('no-data.json'), '--fix', at('file', 'x')]],
  ['train', () => ['train', at('recipe.json')]],
])('%s tries where it writes first', async (_, command) => {
  const before = tree();
  const { code, out, err } = await patina(...command());
  expect({ code, out }, err).toEqual({ code: 3, out: '' });
  expect(err).toMatch(
    /at .*file.*: a part of that path is a file, not a folder \(ENOTDIR\)\.\ncode: E_UNWRITABLE/,
  );
  expect(tree()).toEqual(before);
});

const NONE = ['--model', 'no-model'];
const asked = (data: string, ...more: string[]): string[] => [
  'eval',
  at('no-model'),
  'exact',
  '--data',
  data,
  ...more,
];

test.each<[string, () => string[]]>([
  ['--data and --scores', () => asked(at('file'), '--scores', at('file'))],
  ['--answers and --scores', () => asked(at('a'), '--answers', at('x'), '--scores', at('.', 'x'))],
  ['--scores and --submission', () => asked(at('a'), '--scores', 'x', '--submission', './x')],
  [
    '--image and --out',
    () => ['show', '--size', '8', '--image', at('a.png'), '--out', at('a.png')],
  ],
])('%s of one name are refused', async (which, command) => {
  const before = readFileSync(at('file'));
  const { code, err } = await patina(...command());
  expect(code, err).toBe(2);
  expect(err).toContain(`${which} name the same file`);
  expect(readFileSync(at('file'))).toEqual(before);
});

test('a run of a name that is taken is refused before the model is looked for', async () => {
  const set = ['--set', `run.root=${at('runs')}`, '--set', 'run.name=run'];
  const { code, err } = await patina('train', at('recipe.json'), ...set);
  expect(code, err).toBe(2);
  expect(err).toContain('E_RUN_EXISTS');
});
