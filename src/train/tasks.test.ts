import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RecipeInput } from '../config/index.js';
import { evaluate } from '../eval/index.js';
import { loadChatModel } from '../generate/index.js';
import { listCheckpoints } from './checkpoint/checkpoints.js';
import type { ScoreEvent, TrainEvent } from './events.js';
import { ofType, readEvents } from './run/logs.js';
import { all, endOf, startOf } from './testing-events.js';
import { ColourFolder } from './testing-files.js';
import { train, type TrainOptions } from './train.js';

let folder: ColourFolder;
beforeAll(async () => (folder = await ColourFolder.make()));
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
  return folder.recipe({ validation: { everyUpdates: 4, tasks }, ...more });
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
    const { model } = folder.recipe();
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
      const chat = await loadChatModel(checkpoint, { tokenizer: model.tokenizer, device: 'cpu' });
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
});
