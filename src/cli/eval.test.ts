import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { CHAT_FOLDER, LLAVA } from '../generate/testing.js';
import { holdAnswers } from '../eval/answers-file.js';
import { TASKS } from '../eval/index.js';
import { patina } from './testing.js';

const PICTURES = join(LLAVA, 'llama3', 'pictures');
const NAMES = ['0-0.png', '1-0.png', '2-0.png', '2-1.png'];

let root: string;
beforeAll(() => (root = mkdtempSync(join(tmpdir(), 'patina-eval-'))));
afterAll(() => rmSync(root, { recursive: true }));

function write(name: string, rows: readonly object[]): string {
  const file = join(root, name);
  writeFileSync(file, rows.map((row) => `${JSON.stringify(row)}\n`).join(''));
  return file;
}

const json = (text: string): Record<string, unknown> => JSON.parse(text) as Record<string, unknown>;
const stored = (file: string): Record<string, unknown>[] =>
  readFileSync(file, 'utf8').trim().split('\n').map(json);

const pope = (): string =>
  write(
    'coco_pope_random.json',
    Array.from({ length: 12 }, (_, i) => ({
      question_id: i + 1,
      image: NAMES[i % 4],
      text: `Is there a ${['dog', 'cat', 'bus'][i % 3]!} in the image?`,
      label: i % 2 === 0 ? 'yes' : 'no',
    })),
  );

describe('patina eval', () => {
  test('keeps answers in the order of the questions, and asks only what has none', async () => {
    const [data, answers, rest] = [pope(), join(root, 'a.jsonl'), join(root, 'b.jsonl')];
    const given = ['--data', data, '--images', PICTURES, '--json'];
    const asked = [...given, '--rows', '3'];
    const whole = await patina('eval', CHAT_FOLDER, 'pope', ...asked, '--answers', answers);
    expect(whole).toMatchObject({ code: 0, err: '' });
    const said = stored(answers);
    expect(said.map((each) => each['question_id'])).toEqual(
      Array.from({ length: 12 }, (_, i) => i + 1),
    );
    expect(said[0]).toEqual({
      question_id: 1,
      prompt: 'Is there a dog in the image?\nAnswer the question using a single word or phrase.',
      text: expect.any(String) as string,
      answer_id: expect.any(String) as string,
      model_id: expect.stringContaining('llama3/hf') as string,
      metadata: {},
    });

    const lines = readFileSync(answers, 'utf8').split('\n');
    writeFileSync(rest, `${lines.slice(0, 7).join('\n')}\n${lines[7]!.slice(0, 40)}`);
    const later = await patina('eval', CHAT_FOLDER, 'pope', ...asked, '--answers', rest);
    expect(later).toEqual(whole);
    const texts = (file: string) => stored(file).map(({ answer_id: _, ...each }) => each);
    expect(texts(rest)).toEqual(texts(answers));
    // Those of the first seven were not asked again.
    expect(stored(rest).slice(0, 7)).toEqual(said.slice(0, 7));

    const named = () =>
      patina('eval', CHAT_FOLDER, 'pope', ...asked, '--answers', rest, '--name', 'x');
    // Also where nothing is left to be asked: the score would be that of another model.
    for (const had of [lines.join('\n'), `${lines[0]!}\n`]) {
      writeFileSync(rest, had);
      const mixed = await named();
      expect(mixed).toMatchObject({ code: 4, out: '' });
      expect(mixed.err).toMatch(/holds answers of .*hf, not of x/);
    }
    const told = await patina(
      'eval',
      CHAT_FOLDER,
      'pope',
      ...asked,
      '--answers',
      rest,
      '--system',
      'Hm.',
    );
    expect(told.err).toContain('holds an answer to question 1 behind another system prompt');
    const scored = await patina('eval', '-', 'pope', ...given, '--answers', answers);
    expect(scored).toEqual(whole);
  });

  test('of two processes that ask into one file, one does', async () => {
    const answers = join(root, 'new', 'held.jsonl');
    const held = await holdAnswers(answers);
    const given = ['--data', pope(), '--images', PICTURES, '--answers', answers];
    const second = await patina('eval', CHAT_FOLDER, 'pope', ...given);
    held.release();
    expect(second).toMatchObject({ code: 3, out: '' });
    expect(second.err).toMatch(/held\.jsonl is in use by process \d+(.|\n)*E_ANSWERS_IN_USE/);
  });

  test('scores answers without a model, and compares two', async () => {
    const data = pope();
    const answer = (text: (i: number) => string, name: string): string =>
      write(
        name,
        Array.from({ length: 12 }, (_, i) => ({ question_id: String(i + 1), text: text(i) })),
      );
    const first = answer((i) => (i % 2 === 0 ? 'Yes.' : 'No, there is not.'), 'first.jsonl');
    const second = answer((i) => (i < 7 ? 'Yes' : 'no'), 'second.jsonl');
    const scores = join(root, 'scores.jsonl');
    const given = ['--data', data, '--answers', first, '--compare', second, '--scores', scores];
    const { code, out } = await patina('eval', '-', 'pope', ...given, '--json');
    expect(code).toBe(0);
    // Of the second six are wrong: 2, 4 and 6 of the first seven, 9 and 11 of the rest.
    expect(json(out)).toEqual({
      ...{ task: 'pope', harness: 'llava', score: 1, interval: [1, 1], n: 12 },
      ...{ accuracy: 1, precision: 1, recall: 1, f1: 1, yesRatio: 0.5 },
      comparison: {
        onlyFirst: 5,
        onlySecond: 0,
        p: expect.closeTo(2 / 32, 12) as number,
        score: expect.closeTo(8 / 13, 12) as number,
      },
      categories: {
        random: { score: 1, n: 12, accuracy: 1, precision: 1, recall: 1, f1: 1, yesRatio: 0.5 },
      },
    });
    expect(stored(scores)[1]).toEqual({
      ...{ question_id: 2, text: 'No, there is not.', extracted: 'no', answer: ['no'], score: 1 },
    });
    const few = await patina('eval', '-', 'pope', ...given, '--limit', '4', '--json');
    expect(json(few.out)).toMatchObject({ n: 4, score: 1, comparison: { onlyFirst: 2 } });
    const kit = await patina('eval', '-', 'pope', ...given, '--harness', 'vlmevalkit');
    expect(kit.out).toContain('Scored by the rules of vlmevalkit');
    expect(kit.out).toContain("McNemar's exact test: p = 0.063");
    const noFile = await patina('eval', '-', 'pope', ...given, '--scores', root);
    expect(noFile).toMatchObject({ code: 3 });
    expect(noFile.err).toContain('E_UNWRITABLE');
    const folder = await patina('eval', '-', 'pope', '--data', data, '--answers', root);
    expect(folder).toMatchObject({ code: 4 });
    expect(folder.err).toMatch(/is a folder\.\ncode: E_EVAL_ANSWERS/);
    const lost = await patina('eval', '-', 'pope', ...given.slice(0, 4), '--scores', data);
    expect(lost).toMatchObject({ code: 2 });
    expect(lost.err).toContain('--data and --scores name the same file');
    const none = [...given.slice(0, 4), '--compare', join(root, 'none.jsonl')];
    const gone = await patina('eval', '-', 'pope', ...none);
    expect(gone.err).toMatch(/There is no .*none\.jsonl/);
  });

  test('answers to other words are scored, and told of', async () => {
    const data = write('one.jsonl', [{ question_id: 1, question: 'q', answer: 'x' }]);
    const answers = write('other.jsonl', [{ question_id: 1, prompt: 'p', text: 'x' }]);
    const bare = { question_id: 1, prompt: null, model_id: null, metadata: null, text: 'x' };
    const whole = ['--data', data, '--answers', write('bare.jsonl', [bare])];
    expect(await patina('eval', CHAT_FOLDER, 'exact', ...whole)).toMatchObject({
      code: 0,
      err: '',
    });
    const { code, err } = await patina('eval', '-', 'exact', '--data', data, '--answers', answers);
    expect({ code, err }).toEqual({
      code: 0,
      err: expect.stringMatching(
        /^1 of 1 answers in .* are to other words than lmms-eval/,
      ) as string,
    });
  });

  test('tells what is missing, and where it is had', async () => {
    const data = pope();
    const none = await patina('eval', CHAT_FOLDER, 'pope', '--data', join(root, 'none.json'));
    expect(none).toMatchObject({ code: 4, out: '' });
    expect(none.err).toMatch(/none\.json cannot be read(.|\n)*E_EVAL_DATA(.|\n)*AoiDragon\/POPE/);
    const pictures = await patina('eval', CHAT_FOLDER, 'pope', '--data', data);
    expect(pictures.err).toMatch(/4 of 4 pictures are missing(.|\n)*--images/);
    const answers = write('few.jsonl', [{ question_id: 1, text: 'yes' }]);
    const given = ['--data', data, '--answers', answers];
    const few = await patina('eval', '-', 'pope', ...given);
    expect(few).toMatchObject({ code: 4 });
    expect(few.err).toContain('11 of 12 questions have no answer');
    const nowhere = await patina(
      'eval',
      '-',
      'pope',
      '--data',
      data,
      '--answers',
      join(root, 'no'),
    );
    expect(nowhere.err).toMatch(/There is no file of answers .*no\.\ncode: E_EVAL_ANSWERS/);
    const foreign = write('foreign.jsonl', [{ question_id: 99, text: 'yes' }]);
    const other = await patina('eval', '-', 'pope', '--data', data, '--answers', foreign);
    expect(other.err).toContain('1 answers to no question of the data, the first to 99');
    const label = write('label.jsonl', [{ question_id: 1, text: 'q', label: 'maybe' }]);
    const wrong = await patina('eval', '-', 'pope', '--data', label, '--answers', answers);
    expect(wrong.err).toContain('the answer is maybe, not yes or no');
    expect(await patina('eval', '-', 'pop', '--data', data)).toMatchObject({ code: 2 });
    const harness = await patina('eval', '-', 'pope', ...given, '--harness', 'xtuner');
    expect(harness).toMatchObject({ code: 2 });
  });

  test.each([
    [[], 'no file of them is named'],
    [['--answers', 'a', '--adapter', 'x', '--dtype', 'bf16'], 'so --adapter and --dtype would'],
  ])('without a model takes answers, and nothing for one: %j', async (flags, said) => {
    const { code, err } = await patina('eval', '-', 'pope', '--data', pope(), ...flags);
    expect(code, err).toBe(2);
    expect(err).toContain(said);
  });

  test('a file that does not say what is right has no score', async () => {
    const question = { question_id: 1, text: 'q', choices: ['a', 'b'] };
    const data = write('hidden.jsonl', [question]);
    const answers = write('said.jsonl', [{ question_id: 1, text: 'B.' }]);
    for (const harness of ['llava', 'vlmevalkit', 'lmms-eval']) {
      const given = ['--data', data, '--answers', answers, '--harness', harness, '--json'];
      const { code, out } = await patina('eval', '-', 'scienceqa', ...given);
      expect({ code, out: json(out) }).toEqual({
        code: 0,
        out: { task: 'scienceqa', harness, score: null, interval: null, n: 1, categories: {} },
      });
    }
    const boxes = await patina('eval', '-', 'refcoco', '--data', data, '--answers', answers);
    expect(boxes.err).toContain('hidden.jsonl:1 has no bbox');
  });

  test('lists every task and harness in its help', async () => {
    const { out } = await patina('eval', '--help');
    for (const { name, harnesses } of TASKS) {
      expect(out).toMatch(new RegExp(`^  ${name} .*${Object.keys(harnesses).join(', ')}$`, 'm'));
    }
  });
});
