/** Files of configurations: what is wrong is told with its line and field, what is right becomes a recipe. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { modelConfigOf } from '../src/plan/model-config.js';
import { runOf } from './plan-calibration.js';
import { betweenOf, configOf, readConfigs, recipeOf, recordsOf } from './plan-config.js';
import type { Figures, Predicted } from './plan-row.js';

let folder = '';
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-plan-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const ROW = { name: 'a', model: { layers: 4 }, batch: [{ text: 700, images: 1 }] };

test('of the issue: a micro-batch of one record, three updates on one card', () => {
  const config = configOf({
    ...{ name: 'full', model: { layers: 32, hidden: 4096 }, set: { 'train.decoder': 'full' } },
    ...{ batch: [{ text: 700, images: 1 }], updates: 3, ranks: 1, limitGiB: null },
  });
  expect(recipeOf(config)).toMatchObject({ batchSize: 1, train: { decoder: 'full' } });
  expect(recordsOf(config)).toEqual([{ tokens: 1276, supervised: 680, images: 1 }]);
});

const written = (text: string): string => {
  const file = join(folder, 'odd.json');
  writeFileSync(file, text);
  return file;
};

test.each<[string, string, RegExp]>([
  ['no JSON', '[{"name": "a",\n  "batch" [1]}]', /odd\.json:2:/],
  ['no list', '{"name": "a"}', /odd\.json:1:1: expected a list/],
  ['nothing', '', /odd\.json:1:1: expected a list/],
])('%s is told with its place', (_, text, where) => {
  expect(() => readConfigs(written(text))).toThrow(where);
});

test.each<[string, string, RegExp]>([
  [
    'an unknown key',
    '[\n  {"name": "a", "batch": [{"text": 1}],\n   "model": {"layerz": 3}}',
    /^\S+odd\.json:3:13: 0\.model: .*layerz/,
  ],
  [
    'no text',
    '[\n  {"name": "a", "batch": [\n    {"images": 1}]}',
    /^\S+odd\.json:3:5: 0\.batch\.0\.text/,
  ],
  ['no records', '[{"name": "a",\n"batch": []}', /^\S+odd\.json:2:10: 0\.batch/],
  [
    'pictures for a decoder alone',
    '[{"name": "a", "model": {"text": true},\n"batch": [{"text": 9, "images": 1}]}',
    /^\S+odd\.json:2:33: 0\.batch\.0\.images: a decoder alone/,
  ],
])('%s is told with its place, and the others stand', (_, text, where) => {
  const { good, bad } = readConfigs(written(`${text}, {"name": "b", "batch": [{"text": 9}]}, 3]`));
  expect(good.map(({ name }) => name)).toEqual(['b']);
  expect(bad).toMatchObject([{ name: 'a' }, { name: 'number 3', given: 3 }]);
  expect(bad[0]!.faults).toMatch(where);
});

test('a file that is not there is told', () => {
  expect(() => readConfigs(join(folder, 'nowhere.json'))).toThrow(/nowhere\.json/);
});

test.each<[Record<string, unknown>, object]>([
  [{ 'memory.policy': { decoder: 'products', vision: 'keep' } }, { memory: { policy: {} } }],
  [
    { 'memory.keepBlocks': { decoder: { keep: 1, products: 2 } } },
    { memory: { keepBlocks: { decoder: { keep: 1, products: 2 } } } },
  ],
  [
    { 'train.decoder.lora.rank': 8, 'train.decoder.base': 'nf4' },
    { train: { decoder: { lora: { rank: 8 }, base: 'nf4' } } },
  ],
  [
    { 'optimizer.updateInBackward': true, 'optimizer.clipNorm': null },
    { optimizer: { updateInBackward: true, clipNorm: null } },
  ],
  [{ batchTokens: 4096 }, { batchTokens: 4096, effectiveBatch: 2 }],
  [{ batchTokens: 4096, effectiveBatch: 8 }, { effectiveBatch: 8 }],
  [{ 'precision.states': 'int8' }, { precision: { states: 'int8' } }],
])('%j is set', (set, recipe) => {
  expect(recipeOf(configOf({ ...ROW, set, ranks: 2 }))).toMatchObject(recipe);
});

test('a field that no recipe has is refused by name', () => {
  const config = configOf({ ...ROW, set: { 'train.decodr': 'full' } });
  expect(() => recipeOf(config)).toThrow(/train\.decodr/);
});

test('validation and probes may be those that are set', async () => {
  const between = async (more: object) => {
    const config = configOf({ ...ROW, ...more });
    const recipe = recipeOf(config);
    return betweenOf(config, recipe, await modelConfigOf(recipe));
  };
  const records = recordsOf(configOf(ROW));
  const question = { text: 'What?', images: ['a.jpg'] };
  expect(await between({})).toBe(null);
  expect(await between({ set: { 'validation.fraction': 0.1 } })).toMatchObject({
    ...{ validation: records, probes: [] },
  });
  expect(await between({ set: { 'probes.questions': [question] } })).toMatchObject({
    ...{ validation: [], probes: [{ images: 1 }] },
  });
  expect(await between({ between: { validation: [{ text: 9 }] } })).toMatchObject({
    validation: [{ tokens: 9 }],
  });
});

test('rows say of a card how long they took and what it held, but at a limit', () => {
  const measured: Figures = { allocated: 1, reserved: 2, total: 5, context: 3, seconds: 1.2 };
  const predicted: Predicted = { ...measured, seconds: 1, busy: 0.9, fits: true };
  const row = { name: 'a', config: configOf(ROW), predicted, measured };
  expect(runOf(row)).toEqual({ ranks: 1, kind: 'full, bf16', context: 3, time: 1.2 });
  expect(runOf({ ...row, predicted: { ...predicted, busy: 0.5 } })).toMatchObject({ time: null });
  expect(runOf({ ...row, measured: { failed: 'out of memory' } })).toBe(null);
  expect(runOf({ ...row, predicted: null, measured: { failed: 'no recipe' } })).toBe(null);
  for (const more of [{ limitGiB: 24 }, { set: { 'memory.limit': 24 } }]) {
    expect(runOf({ ...row, config: configOf({ ...ROW, ...more }) })).toBe(null);
  }
});
