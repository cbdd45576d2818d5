/** `patina doctor RUN`: what the folder of a run says of it. */
import {
  appendFileSync,
  mkdtempSync,
  mkdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { checkRecipe, type RecipeInput } from '../config/index.js';
import { postMortem } from '../guard/post-mortem/post-mortem.js';
import { postMortemPage } from '../guard/post-mortem/page.js';
import { showRecord } from '../guard/post-mortem/shown-record.js';
import type { DiagnosisEvent } from '../train/events.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-doctor-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

interface Told {
  readonly state?: string;
  readonly reason?: string;
  readonly losses: readonly (number | null)[];
  readonly events?: readonly object[];
  readonly skipped?: (i: number) => boolean;
  readonly sources?: RecipeInput['data']['sources'];
}

function makeRun({
  state = 'finished',
  sources = ['nowhere'],
  events = [],
  reason,
  losses,
  skipped,
}: Told): string {
  const path = join(folder, 'mine');
  mkdirSync(path);
  const recipe = checkRecipe({
    name: 'mine',
    model: { from: 'nowhere' },
    data: { sources },
    optimizer: { learningRate: 1e-3 },
  });
  const facts = { name: 'mine', recipe: 'mine', created: '2026-01-31', changed: '2026-01-31' };
  const lines = (list: readonly object[]): string =>
    list.map((each) => `${JSON.stringify(each)}\n`).join('');
  const write = (name: string, text: string): void => writeFileSync(join(path, name), text);
  write('recipe.json', JSON.stringify(recipe));
  write(
    'state.json',
    JSON.stringify({ ...facts, state, reason, updates: losses.length, plannedUpdates: 100 }),
  );
  write('events.jsonl', lines(events));
  write(
    'metrics.jsonl',
    lines(
      losses.map((loss, i) => ({
        ...{ update: i + 1, loss, gradientNorm: loss, learningRate: 1e-3, samples: 1 },
        ...{ tokens: 40, imageTokens: 0, supervised: loss === null ? 0 : 9, lossScale: null },
        skipped: skipped?.(i) ?? false,
      })),
    ),
  );
  return path;
}

const falling = Array.from({ length: 40 }, (_, i) => 6 * 0.95 ** i + 0.3 * Math.sin(7 * i) ** 2);
const causesOf = async (path: string): Promise<string[]> =>
  (await postMortem(path)).told.map(({ diagnosis }) => diagnosis.cause);

test('a run that went well has nothing', async () => {
  expect(await causesOf(makeRun({ losses: falling }))).toEqual([]);
});

test('one whose loss rose above its start had too high a rate, also where it died without a word', async () => {
  const losses = [...falling, ...Array.from({ length: 20 }, (_, i) => 3 + i)];
  const path = makeRun({ state: 'running', losses });
  const { run, ending, told } = await postMortem(path);
  expect(run.state).toBe('crashed');
  expect(ending).toContain('died after 60 of 100 updates');
  expect(told.map(({ diagnosis }) => diagnosis.cause)).toEqual(['learning-rate-too-high']);
  expect(told[0]!.diagnosis.fix).toContain('--set optimizer.learningRate=0.0001');
});

test('updates that were skipped in silence, or had nothing to learn, are named', async () => {
  expect(await causesOf(makeRun({ losses: falling, skipped: (i) => i % 3 === 0 }))).toEqual([
    'silent-skip',
  ]);
  rmSync(join(folder, 'mine'), { recursive: true });
  expect(await causesOf(makeRun({ losses: [...falling, null] }))).toEqual(['no-supervision']);
});

test.each([
  ['E_COLLECTIVE_ORDER', 'collective-mismatch'],
  ['E_RECORD_TURNS', 'no-supervision'],
  ['E_IMAGE_TRUNCATED', 'broken-image'],
])('an error that is a cause by itself is one, with its own advice: %s', async (code, cause) => {
  const reason = 'what went wrong';
  const failed = { type: 'failed', update: 40, code, reason, hint: 'Mend it.' };
  const path = makeRun({ state: 'failed', reason, losses: falling, events: [failed] });
  const { told } = await postMortem(path);
  expect(told.map(({ diagnosis }) => diagnosis)).toMatchObject([
    { cause, message: reason, fix: 'Mend it.' },
  ]);
});

test.each(['E_COLLECTIVE_TIMEOUT', 'E_COLLECTIVE'])(
  'a rank that is slow, or a network that fails, is no mismatch: %s',
  async (code) => {
    const failed = { type: 'failed', update: 40, code, reason: 'x', hint: 'y' };
    const path = makeRun({ state: 'failed', reason: 'x', losses: falling, events: [failed] });
    expect(await causesOf(path)).toEqual(['unknown']);
  },
);

test('a failure that the run has got past is none', async () => {
  const failed = { type: 'failed', update: 4, code: 'E_COLLECTIVE_ORDER', reason: 'x', hint: 'y' };
  expect(await causesOf(makeRun({ losses: falling, events: [failed] }))).toEqual([]);
});

test('a folder that is no run, or a damaged one, is refused', async () => {
  await expect(postMortem(folder)).rejects.toMatchObject({ code: 'E_NO_RUN' });
  const path = makeRun({ losses: falling });
  writeFileSync(join(path, 'recipe.json'), '{');
  await expect(postMortem(path)).rejects.toMatchObject({ code: 'E_RUN_BROKEN' });
});

test('what was told is kept together by cause, and shown on a page with its record', async () => {
  const source = join(folder, 'records.jsonl');
  const turns = [
    { from: 'human', value: 'What is <b>this</b>?' },
    { from: 'gpt', value: 'A test.' },
  ];
  writeFileSync(source, `${JSON.stringify({ id: 7, conversations: turns })}\n`);
  const diagnosis: DiagnosisEvent = {
    ...{ type: 'diagnosis', update: 3, cause: 'poisoned-record', confidence: 0.95 },
    ...{ message: 'one record', evidence: ['it was <seen>'], fix: 'mend it', module: null },
    ...{
      records: [{ source, line: 1, record: 1, id: 7 }],
      rank: null,
      page: 'docs/causes/poisoned-record.md',
    },
  };
  const path = makeRun({ losses: falling, events: [diagnosis, { ...diagnosis, update: 9 }] });
  const found = await postMortem(path);
  expect(found.told).toEqual([{ diagnosis, updates: [3, 9] }]);
  const page = await postMortemPage(found);
  for (const part of ['poisoned-record', '3, 9', 'What is', 'A test.', '<polyline']) {
    expect(page).toContain(part);
  }
  // Nothing of what others wrote is markup.
  expect(page).not.toMatch(/<b>this|<seen>/);
  expect(readFileSync(source, 'utf8')).toContain('<b>this');
});

test('the record is the one of its number, with its picture from the folder of its source', async () => {
  const source = join(folder, 'records.json');
  const pictures = join(folder, 'pictures');
  mkdirSync(pictures);
  const background = { r: 9, g: 99, b: 199 };
  await sharp({ create: { width: 8, height: 8, channels: 3, background } })
    .png()
    .toFile(join(pictures, 'a.png'));
  const turns = (answer: string): object[] => [
    { from: 'human', value: '<image>What is it?' },
    { from: 'gpt', value: answer },
  ];
  const all = ['the first', 'the second'].map((each) => ({
    image: 'a.png',
    conversations: turns(each),
  }));
  writeFileSync(source, JSON.stringify(all));
  const sources = [{ path: source, images: pictures }];
  const shown = await showRecord({ source, line: 1, record: 2, id: null }, [
    { path: join(folder, 'gone.json'), weight: 1 },
    { ...sources[0]!, weight: 1 },
  ]);
  expect(shown.text).toContain('the second');
  expect(shown.text).not.toContain('the first');
  expect(shown.pictures).toHaveLength(1);
  const diagnosis = {
    ...{ type: 'diagnosis', update: 3, cause: 'poisoned-record', confidence: 1, message: 'one' },
    ...{ evidence: [], fix: 'mend it', module: null, rank: null, page: 'x' },
    records: [{ source, line: 1, record: 2, id: null }],
  };
  const page = await postMortemPage(
    await postMortem(makeRun({ losses: falling, events: [diagnosis], sources })),
  );
  expect(page).toContain('<img');
  expect(page).toContain('records.json:1 (record 2)');
});

test('a log that is damaged, or of another version, is told as far as it can be read', async () => {
  const diagnosis = {
    ...{ type: 'diagnosis', update: 3, cause: 'poisoned-record', confidence: 1, message: 'one' },
    ...{ evidence: [], fix: 'mend it', records: [], module: null, rank: null, page: 'a page' },
  };
  const path = makeRun({ losses: falling, events: [diagnosis] });
  const log = join(path, 'events.jsonl');
  const odd = [
    '{"type": "diag',
    '{"type":"diagnosis"}',
    JSON.stringify({ ...diagnosis, cause: 7 }),
    '{"type":"recovery","update":3,"message":"it","action":"dance"}',
    'null',
    JSON.stringify({ ...diagnosis, update: 9 }),
  ];
  appendFileSync(log, odd.map((line) => `${line}\n`).join(''));
  const found = await postMortem(path);
  expect(found.told).toMatchObject([{ updates: [3, 9] }]);
  expect(found.recoveries).toEqual([]);
  expect(found.unread).toEqual(['5 lines of events.jsonl cannot be read']);
  expect(await postMortemPage(found)).toContain('5 lines of events.jsonl cannot be read');
  rmSync(log);
  appendFileSync(join(path, 'metrics.jsonl'), 'no line\n{"update": 41, "loss": 1}\n');
  const { told, unread, metrics } = await postMortem(path);
  expect(told).toEqual([]);
  expect(unread).toEqual(['events.jsonl is not there', '1 line of metrics.jsonl cannot be read']);
  expect(metrics.at(-1)).toMatchObject({ update: 41 });
});
