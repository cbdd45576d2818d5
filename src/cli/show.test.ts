import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { fitImage } from '../data/image/fit.js';
import { readImage } from '../data/image/read-image.js';
import { CHAT_FOLDER, PICTURE } from '../generate/testing.js';
import { writeLayout } from '../models/testing.js';
import { fixture } from '../text/testing.js';
import { main } from './main.js';

const TOKENIZER = ['--tokenizer', fixture('encode/tokenizer'), '--template', 'llama3_chat'];

interface Screen {
  code: number;
  out: string;
  err: string;
}

async function show(args: string[], { tty = false } = {}): Promise<Screen> {
  const screen = { out: '', err: '' };
  const code = await main(['show', ...args], {
    stdout: { isTTY: tty, write: (text) => (screen.out += text) },
    stderr: { write: (text) => (screen.err += text) },
  });
  return { code, ...screen };
}

const talk = (question: string, answer: string): object[] => [
  { from: 'human', value: question },
  { from: 'gpt', value: answer },
];
const RECORDS = [
  { id: 'seen', image: 'nowhere.png', conversations: talk('<image>\nWhat?', 'A cat.') },
  { conversations: [...talk('Say <|eot_id|>\u001b[31m', 'No.'), { from: 'human', value: 'rest' }] },
  { id: 'bad', image: 'nowhere.png', conversations: talk('What?', 'A cat.') },
  'not JSON',
  {
    id: 7,
    messages: [
      { role: 'user', content: 'x' },
      { role: 'assistant', content: 'y '.repeat(40) },
    ],
  },
];

describe('patina show', () => {
  let folder: string;
  let data: string;
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'patina-show-'));
    data = join(folder, 'data.jsonl');
    const lines = RECORDS.map((each) => (typeof each === 'string' ? each : JSON.stringify(each)));
    await writeFile(data, lines.join('\n'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  const parse = (out: string): Record<string, unknown>[] =>
    out
      .trimEnd()
      .split('\n')
      .map((line) => JSON.parse(line) as Record<string, unknown>);

  it('prints one line for each record, in order, and opens no image', async () => {
    const { code, out, err } = await show([...TOKENIZER, '--data', data, '--json']);
    const lines = parse(out);
    expect(lines.map(({ id }) => id)).toEqual(['seen', null, 'bad', null, 7]);
    expect(lines.map((line) => Object.keys(line))).toEqual([
      ...[0, 1].map(() => ['id', 'input_ids', 'labels']),
      ...[0, 1].map(() => ['id', 'error']),
      ['id', 'input_ids', 'labels'],
    ]);
    expect(lines[0]).toEqual({
      id: 'seen',
      input_ids: expect.arrayContaining([-200, 1509]) as unknown,
      labels: expect.arrayContaining([-100, 1509]) as unknown,
    });
    expect(lines[2]!['error']).toMatchObject({ code: 'E_RECORD_IMAGES' });
    expect(lines[3]!['error']).toMatchObject({ code: 'E_RECORD_JSON' });
    expect(code).toBe(4);
    expect(err).toContain('5 records, 2 bad, 0 cut');
    expect(err).toContain('1 [trailing-question]');
  });

  it('keeps ids to the letter, shortens them for people, and tells which fields are not read', async () => {
    const ids = ['12345678901234567890', '1.0', '{"a": [9007199254740993]}', 'true', '"x\\n"'];
    const rest = JSON.stringify({ score: 1, conversations: talk('a', 'b') }).slice(1);
    const long = `{"id":"${'long '.repeat(1e4)}",${rest}`;
    const refused = JSON.stringify({ note: 1, tools: [1], conversations: talk('a', 'b') });
    const lines = [...ids.map((id) => `{"id": ${id}, ${rest}`), long, refused];
    const file = join(folder, 'ids.jsonl');
    await writeFile(file, lines.join('\n'));
    const args = [...TOKENIZER, '--data', file];
    const { out, err } = await show([...args, '--json']);
    const written = out.split('\n').map((line) => /^\{"id":(.*),"input_ids"/.exec(line)?.[1]);
    expect(written.slice(0, ids.length)).toEqual(ids);
    expect(written[ids.length]).toHaveLength(5e4 + 2);
    expect(err).toContain('not read: score (6)');
    expect(err).not.toContain('note');
    const headings = (await show(args)).out.split('\n').filter((line) => line.startsWith('---'));
    expect(headings[0]).toContain('12345678901234567890');
    expect(headings.at(-2)!.length).toBeLessThan(file.length + 120);
  });

  it('shows the prompt with what is learned in brackets, or in colour at a terminal', async () => {
    const args = [...TOKENIZER, '--data', data];
    const { out } = await show(args);
    expect(out).toContain(
      `--- ${data}:1, id "seen"\n` +
        '19 tokens, 4 supervised, 1 image\n' +
        'image 1: nowhere.png\n' +
        '<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n[image]\nWhat?<|eot_id|>' +
        '<|start_header_id|>assistant<|end_header_id|>\n\n⟦A cat.<|eot_id|>⟧\n',
    );
    expect(out).toContain('Say <|eot_id|>␛[31m<|eot_id|>');
    expect(out).toContain('text that spells a special token stays text');
    expect(out).toContain(`${data}:4\nbad: the record is not JSON`);
    expect((await show(args, { tty: true })).out).toContain(
      '\u001b[32;4mA cat.<|eot_id|>\u001b[0m',
    );
  });

  it('cuts records, counting an image as it is told', async () => {
    const args = ['--data', data, '--max-length', '40'];
    const short = await show([...TOKENIZER, ...args, '--index', '4']);
    expect(short).toMatchObject({ code: 0 });
    expect(short.out).toMatch(
      /40 tokens, 28 supervised, 14 cut off\n.*\[14 tokens cut off here\]/s,
    );
    const cut = await show([
      ...TOKENIZER,
      ...args,
      '--index',
      '0',
      '--image-tokens',
      '60',
      '--json',
    ]);
    expect(parse(cut.out)[0]!['error']).toMatchObject({ code: 'E_IMAGE_CUT' });
  });

  it('takes text that spells a special token for the token if asked to', async () => {
    const args = [...TOKENIZER, '--data', data, '--index', '1', '--json'];
    const ids = async (more: string[]): Promise<number[]> =>
      parse((await show([...args, ...more])).out)[0]!['input_ids'] as number[];
    const ends = (list: number[]): number => list.filter((id) => id === 1509).length;
    expect(ends(await ids([]))).toBe(2);
    expect(ends(await ids(['--special-tokens', 'parse']))).toBe(3);
  });

  it('counts and writes images as a model does', async () => {
    const args = ['--model', CHAT_FOLDER, '--data', data, '--index', '0'];
    expect((await show(args)).out).toContain('[image: 16 tokens]');
    const [line] = parse((await show([...args, '--json', '--expand'])).out);
    expect((line!['input_ids'] as number[]).filter((id) => id === 510)).toHaveLength(16);
    expect((line!['labels'] as number[]).length).toBe((line!['input_ids'] as number[]).length);
  });

  it('shows records to a decoder alone', async () => {
    const model = await writeLayout('llama3', 'llama');
    const seen = await show(['--model', model, ...TOKENIZER, '--data', data, '--index', '4']);
    expect(seen).toMatchObject({ code: 0 });
    const refused = await show(['--model', model, '--image', PICTURE]);
    expect(refused.err).toContain('The model takes no pictures.');
    await rm(model, { recursive: true });
  });

  it('writes the pixels of a picture', async () => {
    const out = join(folder, 'out.png');
    const args = ['--image', PICTURE, '--size', '40', '--mode', 'crop', '--out', out];
    const screen = await show(args);
    expect(screen).toEqual({
      code: 0,
      out: `${PICTURE}: 108 x 120 -> 40 x 40 (crop, turned)\n`,
      err: '',
    });
    const fitted = fitImage(await readImage(PICTURE), { size: 40, mode: 'crop' });
    expect(Buffer.from(fitted.data).equals((await readImage(out)).data)).toBe(true);
    const before = await readFile(out);
    await show([...args, '--mode', 'pad']);
    expect(await readFile(out)).not.toEqual(before);
  });

  it('tells how a model sees a picture', async () => {
    const { out } = await show(['--model', CHAT_FOLDER, '--image', PICTURE, '--json']);
    expect(JSON.parse(out)).toEqual({
      ...{ file: PICTURE, width: 108, height: 120, size: 56, mode: 'crop' },
      ...{ reading: 'turned', tokens: 16 },
    });
  });

  describe('of a model that takes tiles', () => {
    const tiled = join(CHAT_FOLDER, '../../next-llama3');
    const model = ['--model', join(tiled, 'hf')];
    const file = join(tiled, 'pictures/size-5.png');

    it('tells tokens and views of a picture, and writes these below one another', async () => {
      const out = join(folder, 'views.png');
      const screen = await show([...model, '--image', file, '--out', out]);
      expect(screen.out).toBe(
        `${file}: 33 x 20 -> 5 views of 16 x 16 (tiles, turned), 52 tokens\n`,
      );
      expect(await readImage(out)).toMatchObject({ width: 16, height: 80 });
      const json = await show([...model, '--image', file, '--json']);
      expect(JSON.parse(json.out)).toMatchObject({ mode: 'tiles', tokens: 52, views: 5 });
    });

    it('counts pictures of records by their sizes, as the most where there is none to be seen', async () => {
      const records = join(folder, 'tiles.json');
      const about = (image: string): object => ({ image, conversations: talk('<image>', 'Yes.') });
      await writeFile(records, JSON.stringify([about(file), about('nowhere.png')]));
      const { out } = await show([...model, '--data', records]);
      expect(out.match(/image: \d+ tokens/g)).toEqual(['image: 52 tokens', 'image: 88 tokens']);
      const [line] = parse((await show([...model, '--data', records, '--json', '--expand'])).out);
      expect((line!['input_ids'] as number[]).filter((id) => id === 261)).toHaveLength(52);
      const told = await show([...model, '--data', records, '--image-tokens', '3']);
      expect(told.out.match(/image: \d+ tokens/g)).toEqual(['image: 3 tokens', 'image: 3 tokens']);
    });
  });

  it('counts pictures of a LLaVA-OneVision by how many a record has', async () => {
    const model = ['--model', join(CHAT_FOLDER, '../../onevision-qwen2/hf')];
    const file = join(CHAT_FOLDER, '../../next-llama3/pictures/size-5.png');
    const screen = await show([...model, '--image', file]);
    expect(screen.out).toBe(`${file}: 33 x 20 -> 5 views of 18 x 18 (tiles, turned), 28 tokens\n`);
    const records = join(folder, 'onevision.json');
    const about = (...images: string[]): object => ({
      images,
      conversations: talk('<image>'.repeat(images.length), 'Yes.'),
    });
    await writeFile(records, JSON.stringify([about(file), about(file, 'nowhere.png')]));
    const { out } = await show([...model, '--data', records]);
    expect(out.match(/image: \d+ tokens/g)).toEqual([28, 17, 17].map((n) => `image: ${n} tokens`));
  });

  it.each([
    ['nothing', [], 2, 'E_USAGE'],
    ['both', ['--data', 'x', '--image', 'y'], 2, 'E_USAGE'],
    ['records without a tokenizer', ['--data', 'x'], 2, 'E_USAGE'],
    ['a picture without a size', ['--image', PICTURE], 2, 'E_USAGE'],
    ['--expand without --json', [...TOKENIZER, '--data', 'x', '--expand'], 2, 'E_USAGE'],
    ['--out for records', [...TOKENIZER, '--data', 'x', '--out', 'x.png'], 2, 'E_USAGE'],
    ['--out of another type', ['--image', PICTURE, '--size', '8', '--out', 'x.jpg'], 2, 'E_OUT'],
    ['a missing picture', ['--image', 'no.png', '--size', '8'], 4, 'E_IMAGE_UNREADABLE'],
    ['a size that is none', ['--image', PICTURE, '--size', '0'], 2, 'E_USAGE'],
    ['a missing file', [...TOKENIZER, '--data', './no.json'], 4, 'E_PATH_MISSING'],
    ['a missing tokenizer', ['--tokenizer', tmpdir(), '--data', './x'], 4, 'E_TOKENIZER_MISSING'],
    ['a missing model', ['--model', './no', '--data', './x'], 4, 'E_PATH_MISSING'],
  ])('refuses %s', async (_name, args, code, error) => {
    const screen = await show(args);
    expect(screen).toMatchObject({ code, out: '' });
    expect(screen.err).toContain(`code: ${error}\n`);
  });

  it('refuses an index beyond the last record', async () => {
    const screen = await show([...TOKENIZER, '--data', data, '--index', '5']);
    expect(screen.err).toContain('code: E_INDEX\nhint: Give an index from 0 to 4.');
  });
});
