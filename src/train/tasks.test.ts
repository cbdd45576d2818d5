import { readFileSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RecipeInput } from '../config/index.js';
import { evaluate } from '../eval/index.js';
import { loadChatModel } from '../generate/index.js';
import { listCheckpoints } from './checkpoint/checkpoints.js';
import type { ScoreEvent, TrainEvent } from './events.js';
import { ofType, readEvents } from './run/logs.js';
import { weightsIn } from './run/run-weights.js';
import { all, endOf, lossesOf, startOf } from './testing-events.js';
import { ColourFolder, colourRecord, TINY_CONFIG } from './testing-files.js';
import { resumeRun, train, type TrainOptions } from './train.js';

let folder: ColourFolder;
/** A checkpoint that has learnt to answer shortly. */
let learnt: string;
beforeAll(async () => {
  folder = await ColourFolder.make();
  learnt = endOf(await all(train(folder.recipe({ schedule: { updates: 160 } })))).checkpoint!;
}, 60_000);
afterAll(() => folder.remove());

const COLOURS = ['red', 'green', 'blue', 'white', 'black'];
const question = (i: number): object => ({
  question_id: i,
  image: `${i % 5}.png`,
  question: 'What colour is it?',
  answer: [`It is ${COLOURS[i % 5]!}.`, COLOURS[i % 5]!],
});
const questions = (): string =>
  folder.writeRecords('questions.jsonl', [0, 1, 2, 3, 4, 5, 6].map(question));

function recipe(more: Partial<RecipeInput> = {}): RecipeInput {
  const data = questions();
  const tasks = [
    { task: 'exact', data },
    { name: 'few', task: 'exact', data, limit: 3, rows: 2, harness: 'vlmevalkit' },
  ];
  const validation = { everyUpdates: 4, tasks };
  return folder.recipe({ model: { from: learnt }, validation, ...more });
}

const run = (more?: Partial<RecipeInput>, options?: TrainOptions): Promise<TrainEvent[]> =>
  all(train(recipe(more), options));
const scoresOf = (events: readonly TrainEvent[]): ScoreEvent[] =>
  events.filter((event) => event.type === 'score');
const lines = (file: string): Record<string, unknown>[] =>
  readFileSync(file, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

describe('tasks of a recipe', () => {
  test('are asked before the first update, at each validation and at the end, as patina eval asks', async () => {
    const events = await run({ checkpoints: { everyUpdates: 4, keep: 9 } });
    const scores = scoresOf(events);
    expect(
      scores.map(({ update, name, task, harness, n }) => [update, name, task, harness, n]),
    ).toEqual(
      [0, 4, 8, 10].flatMap((update) => [
        [update, 'exact', 'exact', 'lmms-eval', 7],
        [update, 'few', 'exact', 'vlmevalkit', 3],
      ]),
    );
    expect(startOf(events).statements).toContain(
      'task few (exact): 3 questions before the first update and at each validation, by the rules of vlmevalkit',
    );
    // The last update learns something, and the answers say so.
    expect(scores.at(-2)!.score).toBeGreaterThan(0);
    expect(scores.every(({ peakBytes, seconds }) => peakBytes > 0 && seconds > 0)).toBe(true);
    const path = startOf(events).run!;
    const told = ofType(await readEvents(path), 'score');
    expect(told.map(({ score }) => score)).toEqual(scores.map(({ score }) => score));
    expect(endOf(events).scores).toEqual({
      exact: scores.at(-2)!.score,
      few: scores.at(-1)!.score,
    });

    const checkpoints = await listCheckpoints(join(path, 'checkpoints'));
    expect(checkpoints.map(({ update }) => update)).toEqual([4, 8, 10]);
    for (const { path: checkpoint, update, scores: kept } of checkpoints) {
      const own = scores.filter((each) => each.update === update);
      expect(kept).toEqual(Object.fromEntries(own.map(({ name, score }) => [name, score])));
      const chat = await loadChatModel(checkpoint, { device: 'cpu' });
      try {
        const answers = join(checkpoint, '..', '..', `again-${update}.jsonl`);
        const { result } = await evaluate('exact', {
          ...{ data: questions(), answers, model: 'again' },
          load: () => Promise.resolve(chat),
        });
        expect(result!.score).toBe(own[0]!.score);
        expect(result!.interval).toEqual(own[0]!.interval);
        const texts = (file: string) => lines(file).map(({ text }) => text);
        expect(texts(own[0]!.answers)).toEqual(texts(answers));
      } finally {
        chat.model.dispose();
      }
    }
    expect(lines(scores[1]!.answers)).toMatchObject([0, 1, 2].map((id) => ({ question_id: id })));
  });

  test('that a run was interrupted at are asked when it goes on, and each once', async () => {
    const stop = new AbortController();
    const first: TrainEvent[] = [];
    for await (const event of train(recipe(), { signal: stop.signal })) {
      first.push(event);
      if (event.type === 'score' && event.update === 4) stop.abort(new Error('enough'));
    }
    expect(endOf(first)).toMatchObject({ reason: 'interrupted', update: 4 });
    const path = startOf(first).run!;
    const rest = await all(resumeRun(path));
    expect(scoresOf(rest).map(({ update, name }) => `${name} ${update}`)).toEqual([
      ...['few 4', 'exact 8', 'few 8', 'exact 10', 'few 10'],
    ]);
    const whole = await run();
    const score = ({ update, name, score, best }: ScoreEvent) => ({ update, name, score, best });
    expect([...scoresOf(first), ...scoresOf(rest)].map(score)).toEqual(scoresOf(whole).map(score));
    // Answering takes nothing from the course of the run.
    expect([...lossesOf(first), ...lossesOf(rest)]).toEqual(
      lossesOf(await all(train(folder.recipe({ model: { from: learnt } })))),
    );
    const [checkpoint] = await listCheckpoints(join(path, 'checkpoints'));
    expect(checkpoint).toMatchObject({
      update: 4,
      scores: { exact: expect.any(Number) as number },
    });
    expect(Object.keys(checkpoint!.scores)).toEqual(['exact', 'few']);
  });

  test('may be others when a run goes on', async () => {
    const first = await run({}, { maxUpdates: 4 });
    const tasks = JSON.stringify([{ task: 'exact', name: 'two', data: questions(), limit: 2 }]);
    const rest = await all(resumeRun(startOf(first).run!, { set: [`validation.tasks=${tasks}`] }));
    expect(scoresOf(rest).map(({ update, name, n }) => [update, name, n])).toEqual([
      [8, 'two', 2],
      [10, 'two', 2],
    ]);
    expect(endOf(rest).scores).toEqual({ two: expect.any(Number) as number });
  });

  test('decide which checkpoint is best, and when the run has waited enough', async () => {
    const data = questions();
    const never = folder.writeRecords('never.jsonl', [
      { question_id: 1, question: 'What colour is it?', answer: 'It is mauve.' },
    ]);
    const tasks = [
      { task: 'exact', data },
      { task: 'exact', name: 'never', data: never },
    ];
    const checkpoints = { everyUpdates: 100, keep: 1 };
    const validation = { everyUpdates: 2, fraction: 0.2, tasks, best: 'exact' };
    const schedule = { updates: 14 };
    const events = await run({ validation, checkpoints, schedule });
    const own = scoresOf(events).filter(({ name, update }) => name === 'exact' && update > 0);
    const top = Math.max(...own.map(({ score }) => score));
    const first = own.find(({ score }) => score === top)!;
    expect(own.filter(({ best }) => best).at(-1)).toEqual(first);
    const path = startOf(events).run!;
    const kept = await listCheckpoints(join(path, 'checkpoints'));
    // The newest of equals is the best.
    const ended = own.at(-1)!.score === top;
    expect(kept.map(({ update }) => update)).toEqual(ended ? [14] : [first.update, 14]);
    expect(kept.map(({ bestBy }) => bestBy)).toEqual(kept.map(() => 'exact'));
    expect(await weightsIn(path)).toBe(kept[0]!.path);

    const waiting = { ...validation, best: 'never', patience: 2 };
    const waited = await run({ validation: waiting, checkpoints, schedule });
    // Of scores that are all 0 the first is the best; the one before the first update does not count.
    expect(endOf(waited)).toMatchObject({ reason: 'early-stopped', update: 6 });
  });

  test('need no loss beside them, and are asked of a LoRA over a base in 4 bits', async () => {
    const { tasks } = recipe().validation!;
    const events = await run({
      train: {
        vision: { base: 'nf4' },
        decoder: { lora: { rank: 2, alpha: 4, dropout: 0.3 }, base: 'nf4' },
      },
      validation: { everyUpdates: 5, tasks },
    });
    expect(events.some(({ type }) => type === 'validation')).toBe(false);
    const scores = scoresOf(events).filter(({ name }) => name === 'exact');
    expect(scores.map(({ update }) => update)).toEqual([0, 5, 10]);
    const chat = await loadChatModel(endOf(events).checkpoint!, { device: 'cpu' });
    try {
      const { result } = await evaluate('exact', {
        ...{ data: questions(), model: 'again' },
        load: () => Promise.resolve(chat),
      });
      expect(scores.at(-1)!.score).toBe(result!.score);
    } finally {
      chat.model.dispose();
    }
  });

  test.each([
    [{ task: 'poep' }, 'E_EVAL_TASK', /^validation\.tasks\.0: There is no task poep/],
    [{ harness: 'xtuner' }, 'E_EVAL_HARNESS', /exact is not scored by the rules of xtuner/],
    [{ data: 'none.jsonl' }, 'E_PATH_MISSING', /^validation\.tasks\.0\.data: No such file/],
    [{ data: 'wordless.jsonl' }, 'E_EVAL_DATA', /wordless\.jsonl:2 has no question or text/],
    [{ data: 'broken.jsonl' }, 'E_JSON_LINE', /broken\.jsonl:2 is not JSON/],
    [{ data: 'open.jsonl' }, 'E_EVAL_DATA', /open\.jsonl:1 has no answer/],
    [{ data: 'blind.jsonl' }, 'E_EVAL_DATA', /1 of 1 pictures are missing.*blind\.jsonl:1\)/],
  ])('are refused before anything is loaded: %j', async (wrong, code, message) => {
    folder.writeRecords('wordless.jsonl', [question(1), { question_id: 2 }]);
    writeFileSync(folder.at('broken.jsonl'), '{"question_id": 1, "question": "a"}\n{oh\n{}\n');
    folder.writeRecords('open.jsonl', [{ question_id: 1, question: 'Why?' }]);
    folder.writeRecords('blind.jsonl', [{ ...question(1), image: 'no.png' }]);
    const task = { task: 'exact', data: questions(), ...wrong };
    const absolute = { ...task, data: resolve(folder.path, task.data) };
    const events: TrainEvent[] = [];
    const refused = async (): Promise<void> => {
      for await (const event of train(recipe({ validation: { tasks: [absolute] } })))
        events.push(event);
    };
    await expect(refused()).rejects.toMatchObject({
      ...{ code, message: expect.stringMatching(message) as string },
    });
    expect(events).toEqual([]);
  });

  test('end the run with file and line where a picture cannot be read, and leave no tensor behind', async () => {
    writeFileSync(folder.at('page.png'), '<!doctype html>');
    const data = folder.writeRecords('page.jsonl', [
      question(0),
      { ...question(1), image: 'page.png' },
    ]);
    const validation = { tasks: [{ task: 'exact', data }] };
    await expect(async () => {
      await expect(run({ validation })).rejects.toMatchObject({
        exitCode: 4,
        message: expect.stringContaining('page.jsonl:2: ') as string,
      });
    }).toLeakNothing();
    await expect(() => run({ schedule: { updates: 1 } })).toLeakNothing();
  });

  test('with pictures are refused for a model that sees none', async () => {
    const { text_config: config } = TINY_CONFIG;
    const records = folder.writeRecords(
      'text.jsonl',
      [0, 1, 2].map((i) => colourRecord(i, null)),
    );
    await expect(
      run({
        model: { config, tokenizer: folder.at('tokenizer') },
        train: { decoder: 'full' },
        data: { sources: [records], workers: 0 },
      }),
    ).rejects.toMatchObject({
      code: 'E_EVAL_DATA',
      message: expect.stringMatching(/questions\.jsonl:1 shows a picture/) as string,
    });
  });
});
