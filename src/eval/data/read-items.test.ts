import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { findTask } from '../tasks.js';
import { readItems } from './read-items.js';
import { readTsv } from './tsv.js';

let root: string;
beforeAll(() => (root = mkdtempSync(join(tmpdir(), 'patina-items-'))));
afterAll(() => rmSync(root, { recursive: true }));

function write(name: string, text: string): string {
  const file = join(root, name);
  mkdirSync(dirname(file), { recursive: true });
  writeFileSync(file, text);
  return file;
}

const PICTURE = Buffer.from('x'.repeat(90)).toString('base64');
const LARGE = Buffer.from('y'.repeat(60_000)).toString('base64');

describe('questions', () => {
  test('of VLMEvalKit, with turns that name the picture of another row', async () => {
    const file = write(
      'mmbench.tsv',
      [
        'index\timage\tquestion\thint\tA\tB\tC\tanswer\tcategory\tl2-category',
        `3\t${PICTURE}\t"Which ""one""?\nSay."\tNone\tcat\tdog\t\tA\tanimals\tobjects`,
        `4\t${LARGE}\tAnd here?\tLook.\tred\tblue\tgreen\tC\tcolour\tobjects`,
        '1000003\t3\tWhich?\t\tdog\tcat\t\tB\tanimals\tobjects',
      ].join('\r\n'),
    );
    const items = (await readItems(file)).map(findTask('mmbench').refine!);
    expect(items.map(({ id, group, hint }) => [id, group, hint])).toEqual([
      [3, '3', undefined],
      [4, '4', 'Look.'],
      [1_000_003, '3', undefined],
    ]);
    expect(items[0]).toMatchObject({
      question: 'Which "one"?\nSay.',
      answers: ['A'],
      categories: ['animals', 'objects'],
      pictures: [{ base64: PICTURE }],
    });
    expect([...items[0]!.options]).toEqual([
      ['A', 'cat'],
      ['B', 'dog'],
    ]);
    expect(items[2]!.pictures).toEqual([{ base64: PICTURE }]);
    expect(items[1]!.pictures).toMatchObject([{ file, length: LARGE.length }]);
  });

  test('of TextVQA, GQA, ScienceQA and RefCOCO as their makers give them', async () => {
    const text = write(
      'TextVQA_0.5.1_val.json',
      JSON.stringify({
        data: [{ question_id: 7, image_id: 'a1', question: 'q?', answers: ['x', 'y'] }],
      }),
    );
    expect((await readItems(text, { images: '/p' }))[0]).toMatchObject({
      ...{ id: 7, answers: ['x', 'y'], pictures: [{ path: '/p/a1.jpg' }] },
    });
    const gqa = write(
      'gqa.json',
      JSON.stringify({ '20': { imageId: 'n1', question: 'q?', answer: 'no' } }),
    );
    expect((await readItems(gqa))[0]).toMatchObject({
      ...{ id: '20', answers: ['no'], pictures: [{ path: join(root, 'n1.jpg') }] },
    });
    const problem = {
      question: 'q?',
      choices: ['a', 'b'],
      answer: 1,
      hint: '',
      image: 'image.png',
    };
    const science = write(
      'problems.json',
      JSON.stringify({ 5: { ...problem, split: 'test' }, 6: { ...problem, split: 'train' } }),
    );
    const schoolItems = await readItems(science);
    expect(schoolItems).toHaveLength(1);
    expect(schoolItems[0]).toMatchObject({
      ...{ id: '5', answers: ['B'], pictures: [{ path: join(root, 'images/test/5/image.png') }] },
    });
    const refer = {
      img_id: 'COCO_train2014_000000581857_16.jpg',
      sents: 'the dog',
      bbox: [1, 2, 3, 4],
    };
    const boxes = write('refcoco.json', JSON.stringify([{ ...refer, width: 50, height: 40 }]));
    expect((await readItems(boxes))[0]).toMatchObject({
      question: 'the dog',
      pictures: [{ path: join(root, 'coco/train2017/000000581857.jpg') }],
      box: { corner: [1, 2, 3, 4], width: 50, height: 40 },
    });
  });

  test("of LLaVA's POPE, with the labels of POPE's own files beside it", async () => {
    const file = write(
      'llava/llava_pope_test.jsonl',
      [
        { question_id: 0, image: '1.jpg', text: 'Is it?\nA word.', category: 'random' },
        { question_id: 1, image: '1.jpg', text: 'Was it?\nA word.', category: 'popular' },
        { question_id: 2, image: '2.jpg', text: 'Is it not?\nA word.', category: 'random' },
      ]
        .map((row) => JSON.stringify(row))
        .join('\n'),
    );
    const labels = (kind: string, ...rows: object[]): string =>
      write(`llava/coco/coco_pope_${kind}.json`, rows.map((row) => JSON.stringify(row)).join('\n'));
    labels('random', { text: 'Is it?', label: 'yes' }, { text: 'Is it not?', label: 'no' });
    labels('popular', { text: 'Was it?', label: 'no' });
    expect((await readItems(file)).map(({ answers }) => answers)).toEqual([
      ['yes'],
      ['no'],
      ['no'],
    ]);
    labels('popular', { text: 'Has it been?', label: 'no' });
    await expect(readItems(file)).rejects.toThrow(/:2 is another question than .*popular\.json/);
    labels('random', { text: 'Is it?', label: 'yes' });
    labels('popular', { text: 'Was it?', label: 'no' });
    await expect(readItems(file)).rejects.toThrow(
      /:3 is another question than the labels of random/,
    );
  });

  test('with answers in a list as Python writes it', async () => {
    const file = write(
      'textvqa.tsv',
      `index\tquestion\tanswer\n0\tq\t"['a', ""it's"", 'tab\\t', 'é\\x41']"\n1\tq\t[red]\n`,
    );
    const items = await readItems(file);
    expect(items.map(({ answers }) => answers)).toEqual([['a', "it's", 'tab\t', 'éA'], ['[red]']]);
  });

  test.each([
    ['no id', '{"question":"q"}\n', /:1 has no question_id/],
    ['no question', '{"question_id":1}\n', /:1 has no question/],
    ['no object', '[1]\n', /:1 is no JSON object/],
    ['nothing', '', /has no questions/],
    ['a last line that is torn', '{"id":1,"text":"q"}\n{"id":2,"te', /:2 is not JSON/],
    [
      'a choice that there is not',
      '{"id":1,"text":"q","choices":["a"],"answer":3}\n',
      /choice 3 of 1/,
    ],
    ['half a box', '{"id":1,"text":"q","bbox":[1,2],"width":1,"height":1}\n', /not 6 numbers/],
  ])('%s is told of', async (_, text, message) => {
    await expect(readItems(write('bad.jsonl', text))).rejects.toThrow(message);
  });
});

test('fields that are quoted as they must be come back as they were', async () => {
  const field = fc
    .string({ unit: 'grapheme', maxLength: 12 })
    .map((text) => text.replaceAll('\r', ''));
  const table = fc.array(fc.tuple(field, field, field), { minLength: 1, maxLength: 5 });
  await fc.assert(
    fc.asyncProperty(table, async (rows) => {
      const quoted = rows.map((row) =>
        row.map((each) => `"${each.replaceAll('"', '""')}"`).join('\t'),
      );
      const file = write('any.tsv', `${quoted.join('\n')}\n`);
      const read: unknown[] = [];
      for await (const { fields } of readTsv(file)) read.push(fields);
      expect(read).toEqual(rows);
    }),
    { numRuns: 100 },
  );
});
