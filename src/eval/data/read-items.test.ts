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

  test("of MME's makers: a folder for each kind, whose questions lie beside the pictures or apart", async () => {
    const lines = (what: string): string => `Is it ${what}?\tYes\r\nIs it not ${what}?\tNo\n\n`;
    write('mme/OCR/0001.txt', lines('a'));
    write('mme/OCR/0001.PNG', '');
    write('mme/artwork/questions_answers_YN/7.txt', lines('b'));
    write('mme/artwork/images/8.jpg', '');
    const items = (await readItems(join(root, 'mme'))).map(findTask('mme').refine!);
    expect(
      items.map(({ id, question, answers, group }) => [id, question, answers[0], group]),
    ).toEqual([
      ['OCR/0001.PNG', 'Is it a?', 'yes', `OCR/${join(root, 'mme/OCR/0001.PNG')}`],
      ['OCR/0001.PNG', 'Is it not a?', 'no', `OCR/${join(root, 'mme/OCR/0001.PNG')}`],
      ['artwork/7.jpg', 'Is it b?', 'yes', `artwork/${join(root, 'mme/artwork/images/7.jpg')}`],
      ['artwork/7.jpg', 'Is it not b?', 'no', `artwork/${join(root, 'mme/artwork/images/7.jpg')}`],
    ]);
    write('mme/artwork/questions_answers_YN/8.txt', 'Is it?\n');
    await expect(readItems(join(root, 'mme'))).rejects.toThrow(
      /8\.txt:1 is no question and answer/,
    );
    mkdirSync(join(root, 'other/empty'), { recursive: true });
    await expect(readItems(join(root, 'other'))).rejects.toThrow(/is a folder, and neither POPE's/);
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
    ['an id that a number cannot hold', '{"id":9007199254740993,"text":"q"}\n', /put it in quotes/],
    ['no question', '{"question_id":1}\n', /:1 has no question/],
    ['no object', '[1]\n', /:1 is no JSON object/],
    ['nothing', '', /has no questions/],
    ['a last line that is torn', '{"id":1,"text":"q"}\n{"id":2,"te', /:2 is not JSON/],
    [
      'a choice that there is not',
      '{"id":1,"text":"q","choices":["a"],"answer":3}\n',
      /choice 3 of 1/,
    ],
    ['a list that is torn', '[\n{"id":1,"text":"q"},\n{"id":2', /is not JSON: /, 'bad.json'],
    [
      'a quotation mark that stays open',
      'id\ttext\n1\t"q\n2\tq\n',
      /:2 has a quotation mark/,
      'bad.tsv',
    ],
    ['a torn row', 'id\ttext\tanswer\n1\tq\ta\n2\tq', /:3 is torn: .* 2 of 3 fields/, 'bad.tsv'],
    ['a choice that is no text', '{"id":1,"text":"q","choices":["a",[]]}\n', /:1: choice B is no/],
    ['too many choices', `{"id":1,"text":"q","choices":[${'1,'.repeat(26)}1]}\n`, /27 choices/],
    [
      'a category that is no text',
      '{"id":1,"text":"q","category":{}}\n',
      /its category is no text/,
    ],
    ['an image without a name', '{"id":1,"text":"q","image":""}\n', /its image has no name/],
    [
      'a picture without a size',
      '{"id":1,"text":"q","bbox":[1,2,3,4],"width":0,"height":1}\n',
      /the picture is 0 wide/,
    ],
    ['half a box', '{"id":1,"text":"q","bbox":[1,2],"width":1,"height":1}\n', /not 6 numbers/],
  ])('%s is told of', async (_, text, message, name = 'bad.jsonl') => {
    await expect(readItems(write(name, text))).rejects.toThrow(message);
  });

  test.each([
    ['mark.jsonl', '\ufeff{"id":1,"text":"q"}\r\n'],
    ['mark.json', '\ufeff[{"id":1,"text":"q"}]'],
    ['null.jsonl', '{"id":1,"text":"q","choices":null,"image":null,"category":null}\n'],
    ['mark.tsv', '\ufeffid\ttext\r\n1\t"q"\r\n'],
    ['CAPITALS.TSV', 'id\ttext\n1\tq'],
  ])('%s is read as what it is', async (name, text) => {
    const [item] = await readItems(write(name, text));
    expect([String(item!.id), item!.question]).toEqual(['1', 'q']);
  });

  test('categories are one, several or none, and rows that name the picture of each other have none', async () => {
    const rows = [
      { index: 1, question: 'q', category: ['a', 'b'], image: '2' },
      { index: 2, question: 'q', category: '', image: '1' },
    ];
    const items = await readItems(write('rows.json', JSON.stringify(rows)), { images: '/p' });
    expect(items.map(({ categories }) => categories)).toEqual([['a', 'b'], []]);
    expect(items.map(({ pictures }) => pictures)).toEqual([[{ path: '/p/1' }], [{ path: '/p/2' }]]);
  });

  test.each([
    ['choice', { choices: ['a', 'b'], answer: '0' }, /the answer is 0, not one of A, B/],
    ['scienceqa', { options: ['a', 'b'], answer: 'A' }, /has no choices/],
    ['choice', { choices: ['a', 'b'], answer: ['A', 'B'] }, /2 answers in place of one/],
    ['mmbench', { question_id: 'q1', A: 'a', answer: 'A' }, /its index q1 is no whole number/],
    ['pope', { answer: 'maybe' }, /the answer is maybe, not yes or no/],
    ['mme', { answer: 'yes' }, /has no category/],
    ['mme', { answer: 'yes', category: 'OCR', image: PICTURE }, /does not name its picture/],
  ])('a question that %s could not score rightly is told of', async (name, fields, message) => {
    const rows = JSON.stringify([{ question_id: 7, question: 'q', ...fields }]);
    const refine = findTask(name).refine!;
    const [item] = await readItems(write('one.json', rows));
    expect(() => refine(item!)).toThrow(message);
  });

  test('a letter of a choice is one in lower case too', async () => {
    const rows = [{ id: 1, question: 'q', choices: ['x', 'y'], answer: ' b' }];
    const [item] = await readItems(write('lower.json', JSON.stringify(rows)));
    expect(findTask('choice').refine!(item!).answers).toEqual(['B']);
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
