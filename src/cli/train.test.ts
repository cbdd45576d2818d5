import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { collectGarbage } from '../base/testing.js';
import { memoryStats } from '../torch/index.js';
import { ColourFolder } from '../train/testing-files.js';
import type { MemoryEvent, StartEvent, TrainEvent, UpdateEvent } from '../train/index.js';
import { patina } from './testing.js';
import { openTrainView } from './train-view/train-view.js';

let folder: ColourFolder;
let recipe: string;
beforeAll(async () => {
  folder = await ColourFolder.make();
  recipe = folder.at('colours.json');
  writeFileSync(recipe, JSON.stringify(folder.recipe()));
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

const eventsIn = (out: string): TrainEvent[] =>
  out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TrainEvent);

describe('patina train', () => {
  test('says on standard error how it goes', async () => {
    const { code, out, err } = await patina('train', recipe);
    expect({ code, out }).toEqual({ code: 0, out: '' });
    expect(err).toMatch(
      /^loading the model \.\.\.\nopening the data \.\.\.\nchecking the first records \.\.\.\ncolours on the CPU/,
    );
    expect(err).toMatch(/decoder {4}full +12 +\S+ +float32 +3\.00e-3 +0/);
    expect(err).toContain('10 updates, 5 an epoch (2 epochs), 1 of warm-up');
    expect(err).toMatch(/update 10\/10 {2}loss \d\.\d+ +norm .*\nupdate 10: saved .*\nfinished/);
  });

  test('with --json prints events alone, stops and goes on', async () => {
    const first = await patina('train', recipe, '--json', '--max-updates', '4');
    expect({ code: first.code, err: first.err }).toEqual({ code: 0, err: '' });
    expect(eventsIn(first.out).at(-1)).toMatchObject({ reason: 'max-updates', update: 4 });
    const rest = await patina('train', recipe, '--resume', '--json');
    const events = eventsIn(rest.out);
    expect(events.find(({ type }) => type === 'start')).toMatchObject({ resumedFrom: 4 });
    expect(events.at(-1)).toMatchObject({ reason: 'finished', update: 10 });

    const { run } = events.find((event): event is StartEvent => event.type === 'start')!;
    const listed = await patina('runs', '--root', folder.runs);
    expect(listed.out).toMatch(/^run .*\ncolours-\S+ +finished +10\/10 +\d\.\d+ +[▁-█]+ /);
    const shown = await patina('runs', 'show', '--root', folder.runs);
    expect(shown.out).toContain('training loss\n');
    expect(shown.out).toContain(`checkpoint ${run!}`);
    const json = await patina('runs', '--root', folder.runs, '--json');
    expect(JSON.parse(json.out)).toMatchObject({ runs: [{ state: 'finished', updates: 10 }] });
  });

  test('asks the tasks of a recipe, whose scores are told, kept, and those of patina eval', async () => {
    const colours = ['red', 'green', 'blue', 'white', 'black'];
    folder.writeRecords(
      'questions.jsonl',
      colours.map((colour, i) => ({
        ...{ question_id: i, image: `${i}.png`, question: 'What colour is it?' },
        answer: `It is ${colour}.`,
      })),
    );
    const file = folder.at('asked.yaml');
    const asked = {
      ...folder.recipe({ schedule: { updates: 160 }, checkpoints: { keep: 1 } }),
      validation: {
        ...{ everyUpdates: 80, best: 'colours' },
        tasks: [{ task: 'exact', name: 'colours', data: 'questions.jsonl' }],
      },
    };
    writeFileSync(file, JSON.stringify(asked)); // YAML too
    const { code, err } = await patina('train', file);
    expect(code, err).toBe(0);
    expect(err).toContain('task colours (exact): 5 questions before the first update and at each');
    for (const update of [0, 80, 160]) {
      expect(err).toMatch(
        new RegExp(`\nupdate ${update}: colours [01]\\.\\d+ \\(\\S+ to \\S+, n 5, lmms-eval\\)`),
      );
    }
    const [, last] = /\nfinished after .*, colours (\d\.\d+)/.exec(err)!;
    expect(Number(last)).toBeGreaterThan(0);

    const shown = await patina('runs', 'show', '--root', folder.runs);
    expect(shown.out).toContain('score of colours\n');
    expect(shown.out).toMatch(
      new RegExp(`checkpoint .*update-00000160 \\(.*, colours ${last!}\\)`),
    );
    const [run] = readdirSync(folder.runs);
    const path = join(folder.runs, run!);
    const given = ['exact', '--data', folder.at('questions.jsonl'), '--json'];
    const answers = join(path, 'answers', 'colours', 'update-00000160.jsonl');
    const stored = await patina('eval', '-', ...given, '--answers', answers);
    const again = await patina('eval', path, ...given);
    expect(again).toMatchObject({ code: 0, err: '' });
    expect(JSON.parse(stored.out)).toEqual(JSON.parse(again.out));
    expect((JSON.parse(again.out) as { score: number }).score.toPrecision(4)).toBe(last);

    folder.writeRecords('questions.jsonl', [{ question_id: 0, question: 'a', answer: 'b' }, {}]);
    const refused = await patina('train', file);
    expect(refused).toMatchObject({ code: 4, out: '' });
    expect(refused.err).toMatch(
      /^error: validation\.tasks\.0: \S+questions\.jsonl:2 has no question_id, index or id\.\ncode: E_EVAL_DATA/,
    );
    expect(readdirSync(folder.runs)).toEqual([run]);
  });

  test('ends with memory as planned beside what was measured', async () => {
    await collectGarbage();
    const before = memoryStats('cpu').allocated; // what earlier tests hold
    // On the CPU copies for a checkpoint count: they take more than an update.
    const set = ['--set', 'checkpoints.background=false'];
    const { out } = await patina('train', recipe, '--json', '--max-updates', '3', ...set);
    const [memory, end] = eventsIn(out).slice(-2);
    expect(end).toMatchObject({ type: 'end', reason: 'max-updates' });
    const { type, predicted, measured } = memory as MemoryEvent;
    expect(type).toBe('memory');
    for (const kind of ['allocated', 'reserved'] as const) {
      const ratio = predicted![kind] / (measured[kind] - before);
      expect(ratio).toBeGreaterThan(0.5);
      expect(ratio).toBeLessThan(1.5);
    }
    const larger = await patina('train', recipe, '--json', ...set, '--set', 'batchSize=4');
    const event = eventsIn(larger.out).find((each) => each.type === 'memory')!;
    expect(event.predicted!.allocated).toBeGreaterThan(predicted!.allocated);

    const { err } = await patina('train', recipe, '--max-updates', '3');
    expect(err).toMatch(
      /, at most \d+ KiB \(planned \d+ KiB\) in tensors, \d+ KiB \(planned \d+ KiB\) reserved; `/,
    );
  });

  test('with --profile says where the time of an update goes, and where its trace is', async () => {
    const { code, err } = await patina('train', recipe, '--profile', '2', '--max-updates', '6');
    expect(code, err).toBe(0);
    expect(err).toMatch(/\nprofile of 2 updates, to update 5\n {2}an update took \d+\.\d+ ms /);
    expect(err).toMatch(/\n +products +\d+\.\d+ +\d+\.\d+ % /);
    const [, trace] = /trace, for .*: (\S+)\n/.exec(err)!;
    expect(existsSync(trace!)).toBe(true);
    const refused = await patina('train', recipe, '--profile', '0');
    expect(refused).toMatchObject({ code: 2 });
    expect(refused.err).toContain('--profile');
  });

  test('what it says to type goes on with this run, wherever it lies', async () => {
    const { err } = await patina('train', recipe, '--max-updates', '4');
    const [, said = ''] = /; `patina (.+)` goes on\n$/.exec(err) ?? [];
    expect(said).toContain(folder.runs);
    const rest = await patina(...said.split(' '));
    expect(rest.code, rest.err).toBe(0);
    expect(rest.err).toContain('goes on after update 4');
  });

  test('on Ctrl-C saves and ends with 130', async () => {
    const before = process.listenerCount('SIGINT');
    const running = patina('train', recipe, '--set', 'schedule.updates=5000', '--json');
    while (!existsSync(folder.runs)) await new Promise(setImmediate);
    process.emit('SIGINT');
    const { code, out } = await running;
    expect(code).toBe(130);
    expect(eventsIn(out).at(-1)).toMatchObject({ reason: 'interrupted' });
    expect(process.listenerCount('SIGINT')).toBe(before);
  });

  test('on Ctrl-C before the first update trains nothing', async () => {
    const before = process.listenerCount('SIGINT');
    const running = patina('train', recipe);
    while (process.listenerCount('SIGINT') === before) await new Promise(setImmediate);
    process.emit('SIGINT');
    const { code, err } = await running;
    expect(code).toBe(130);
    expect(err).toMatch(/stopped before the first update: nothing was trained\n$/);
    expect(existsSync(folder.runs)).toBe(false);
  });

  test('of a dry run, with other data, makes no run', async () => {
    const { code, err } = await patina(
      'train',
      recipe,
      '--dry-run',
      '--data',
      folder.at('one.jsonl'),
      '--limit',
      '3',
    );
    expect(code).toBe(0);
    expect(err).toContain(`data: ${folder.at('one.jsonl')}: 3 of 7 records`);
    expect(err).toMatch(/nothing was trained \(--dry-run\)\n$/);
    expect(existsSync(folder.runs)).toBe(false);
  });

  test.each<[string[], number, string]>([
    [['train'], 2, 'no recipe was given'],
    [['trian'], 2, 'Did you mean train?'],
    [['train', 'llava-llama-3-8b-lra'], 2, 'Did you mean llava-llama-3-8b-lora?'],
    [['train', 'no.yaml'], 2, 'E_RECIPE_MISSING'],
    [['train', '--resume', 'nothing'], 2, 'E_NO_RUN'],
    [['train', 'x', '--max-updates', '0'], 2, 'whole number from 1'],
    [['train', 'x', '--resum'], 2, 'Did you mean --resume?'],
    [['runs', 'show', 'nothing'], 2, 'E_NO_RUN'],
    [['recipes', 'show', 'nothing'], 2, 'E_RECIPE_UNKNOWN'],
    [['recipes', 'lst'], 2, 'Did you mean list?'],
    [['runs', 'shw'], 2, 'Did you mean show?'],
    [['runs', 'mine'], 2, '`patina runs show mine` shows a run of that name.'],
    [['recipes'], 2, 'no command was given after recipes'],
    [['recipes'], 2, 'hint: Choose a command; `patina recipes --help` lists them.'],
  ])('%j is refused', async (args, exit, text) => {
    const { code, out, err } = await patina(...args);
    expect({ code, out }).toEqual({ code: exit, out: '' });
    expect(err).toContain(text);
    expect(err).toMatch(/^hint: .+$/m);
  });

  test.each([
    ...['train', 'runs', 'runs show', 'recipes', 'recipes list', 'recipes show', 'recipes copy'],
    ...['doctor', 'show', 'chat'],
  ])('%s has help with examples', async (name) => {
    const { code, out } = await patina(...name.split(' '), '--help');
    expect(code).toBe(0);
    expect(out).toMatch(/Examples:\n(.*\| )? *patina /);
  });
});

test('patina recipes lists, shows and copies', async () => {
  expect((await patina('recipes', 'list')).out).toContain('llava-llama-3-8b-lora\n    Stage 2');
  const shown = await patina('recipes', 'show', 'llava-llama-3-8b-lora', '--json');
  expect(JSON.parse(shown.out)).toMatchObject({
    ...{ batchTokens: 8192, effectiveBatch: 128 },
    optimizer: { betas: [0.9, 0.999] },
  });
  const file = folder.at('mine.yaml');
  expect((await patina('recipes', 'copy', 'llava-llama-3-8b-lora', file)).code).toBe(0);
  // Paths that start from here lead to the same places from there.
  const here = relative(dirname(file), process.cwd());
  const { out } = await patina('recipes', 'show', 'llava-llama-3-8b-lora');
  expect(out).toContain(' ./projector\n');
  expect(readFileSync(file, 'utf8')).toBe(out.replaceAll(' ./', ` ${here}/`));
});

test('the terminal view draws its block over itself', () => {
  let screen = '';
  let time = 0;
  const output = { isTTY: true, write: (text: string) => (screen += text) };
  const view = openTrainView(output, { columns: 60, now: () => time });
  const update = (number: number): UpdateEvent => ({
    type: 'update',
    update: number,
    epoch: 0,
    loss: 1 / number,
    gradientNorm: 1,
    learningRate: 1e-4,
    counts: { sequences: 2, tokens: 100, imageTokens: 40, images: 2, supervised: 9, truncated: 0 },
    seconds: 0.5,
    tokensPerSecond: 200,
    samplesPerSecond: 4,
    waiting: 0.25,
    memory: { peakBytes: 2 ** 30, totalBytes: 2 ** 32 },
    skipped: false,
    skippedSegments: null,
    lossScale: null,
  });
  for (const number of [1, 2]) {
    view.show(update(number));
    time += 200;
  }
  view.say('saved');
  const block = screen.split('\u001B[J').at(-1)!;
  expect(screen.match(/\u001B\[2A/g)).toHaveLength(2);
  expect(block.split('\n')).toEqual([
    'saved',
    expect.stringMatching(/^update 2\/0 {2}epoch 1 {2}loss 0\.5000 █▁/) as string,
    '200 tok/s (80 image)  4 samples/s  waiting 25 %  memory 1.0',
    '',
  ]);
});
