import { parquetWriteFile, type ColumnSource } from 'hyparquet-writer';
import { type SchemaElement } from 'hyparquet';
import { readFile } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { parseRecord } from '../records/parse-record.js';
import { pngBytes, TestFolder } from '../testing.js';
import { DataFile } from './data-file.js';
import { indexParquet, ParquetTable } from './parquet-table.js';

let folder: TestFolder;
beforeAll(async () => {
  folder = await TestFolder.make();
});
afterAll(() => folder.remove());

async function open(path: string): Promise<ParquetTable> {
  const file = await DataFile.open(path);
  try {
    return await ParquetTable.open(await indexParquet(file));
  } finally {
    await file.close();
  }
}

const text = (name: string): SchemaElement => ({
  name,
  type: 'BYTE_ARRAY',
  converted_type: 'UTF8',
  repetition_type: 'OPTIONAL',
});
const group = (name: string, children: SchemaElement[], list = false): SchemaElement[] => {
  const struct: SchemaElement[] = [
    {
      name: list ? 'element' : name,
      repetition_type: 'OPTIONAL',
      num_children: children.filter((child) => child.type).length,
    },
    ...children,
  ];
  if (!list) return struct;
  return [
    { name, repetition_type: 'OPTIONAL', num_children: 1, converted_type: 'LIST' },
    { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
    ...struct,
  ];
};
const BYTES: SchemaElement = { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' };
const IMAGE = group('image', [BYTES, text('path')]);
const CONVERSATIONS = group('conversations', [text('from'), text('value')], true);

const turns = (i: number): unknown => [
  { from: 'human', value: i % 4 === 3 ? `say é ${i}` : `<image>\nwhat ${i}` },
  { from: 'gpt', value: `answer ${i}` },
];

function write(
  name: string,
  columnData: ColumnSource[],
  schema: SchemaElement[],
  options: { offsetIndex?: boolean } = {},
): string {
  const filename = folder.at(name);
  parquetWriteFile({
    filename,
    columnData: columnData.map((column) => ({ ...column, ...options })),
    schema: [{ name: 'root', num_children: columnData.length }, ...schema],
    rowGroupSize: 10,
    pageSize: 300,
  });
  return filename;
}

describe('a table of Parquet', () => {
  it.each([true, false])('keeps the bytes of images (index of pages: %s)', async (offsetIndex) => {
    const pictures = await Promise.all(Array.from({ length: 35 }, (_, i) => pngBytes(i)));
    const image = pictures.map((bytes, i) => (i % 4 === 3 ? null : { bytes, path: `${i}.png` }));
    const path = write(
      'image.parquet',
      [
        { name: 'id', data: BigInt64Array.from(image, (_, i) => BigInt(i)) },
        { name: 'image', data: image },
        { name: 'unused', data: image.map(() => 'x') },
        { name: 'conversations', data: image.map((_, i) => turns(i)) },
      ],
      [
        { name: 'id', type: 'INT64', repetition_type: 'REQUIRED' },
        ...IMAGE,
        text('unused'),
        ...CONVERSATIONS,
      ],
      { offsetIndex },
    );
    const table = await open(path);
    for (const i of [34, 0, 9, 10, 3, 21]) {
      const read = await table.read(i);
      const parsed = parseRecord(read.ok ? read.json : read.problem);
      const expected =
        i % 4 === 3 ? [] : [{ bytes: Uint8Array.from(pictures[i]!), path: `${i}.png` }];
      expect(parsed).toMatchObject({ ok: true, record: { id: i, images: expected } });
      if (read.ok) expect(read.json).toMatchObject({ conversations: turns(i) });
      expect(table.place(i)).toEqual({ file: path, record: i + 1, line: null });
    }
    const texts: unknown[] = [];
    for await (const row of table.readTexts(5, 34)) texts.push(row);
    expect(texts).toHaveLength(29);
    expect(texts[0]).toEqual({ id: 5, conversations: turns(5) });
    await table.close();
  });

  it('reads messages with lists of images', async () => {
    const png = await pngBytes(1);
    const images = [
      [],
      [{ bytes: png, path: null }],
      [{ bytes: null, path: 'a/b.png' }, { bytes: png }],
    ];
    const messages = images.map((list) => [
      { role: 'user', content: `${'<image>'.repeat(list.length)} what?` },
      { role: 'assistant', content: 'yes' },
    ]);
    const path = write(
      'images.parquet',
      [
        { name: 'images', data: images },
        { name: 'messages', data: messages },
      ],
      [
        ...group('images', [BYTES, text('path')], true),
        ...group('messages', [text('role'), text('content')], true),
      ],
    );
    const table = await open(path);
    const parsed = await Promise.all(
      images.map(async (_, i) => {
        const read = await table.read(i);
        const outcome = parseRecord(read.ok ? read.json : undefined);
        return outcome.ok ? outcome.record.images : outcome.problem;
      }),
    );
    const bytes = { bytes: Uint8Array.from(png), path: undefined };
    expect(parsed).toEqual([[], [bytes], ['a/b.png', bytes]]);
    await table.close();
  });

  it('reads tables of both forms, the fields that matter, and ids to the letter', async () => {
    const nulls = { from: null, value: null, role: null, content: null };
    const forms = [
      [
        { ...nulls, from: 'human', value: 'a' },
        { ...nulls, from: 'gpt', value: 'b' },
      ],
      [
        { ...nulls, role: 'user', content: 'a' },
        { ...nulls, role: 'assistant', content: 'b' },
      ],
    ];
    const path = write(
      'forms.parquet',
      [
        { name: 'id', data: BigInt64Array.of(2n ** 53n + 1n, 7n) },
        { name: 'system', data: ['S', null] },
        { name: 'video', data: [null, 'a.mp4'] },
        { name: 'score', data: ['1', '2'] },
        { name: 'conversations', data: forms },
      ],
      [
        { name: 'id', type: 'INT64', repetition_type: 'REQUIRED' },
        ...['system', 'video', 'score'].map(text),
        ...group('conversations', ['from', 'value', 'role', 'content'].map(text), true),
      ],
    );
    const table = await open(path);
    const [one, other] = [await table.read(0), await table.read(1)];
    expect(one).toMatchObject({ ok: true, idText: '9007199254740993' });
    expect(parseRecord(one.ok ? one.json : undefined)).toMatchObject({
      record: { id: '9007199254740993', messages: [{ role: 'system' }, {}, {}] },
    });
    expect(other).toMatchObject({ ok: true, json: { id: 7, video: 'a.mp4' } });
    expect(other.ok && other.json).not.toHaveProperty('score');
    expect(parseRecord(other.ok ? { ...(other.json as object), video: null } : 0)).toMatchObject({
      ok: true,
      record: { messages: [{ role: 'user' }, { role: 'assistant' }] },
    });
    await table.close();
  });

  it('reads plain paths', async () => {
    const path = write(
      'paths.parquet',
      [
        { name: 'image', data: ['a.png', null] },
        { name: 'conversations', data: [turns(0), turns(3)] },
      ],
      [text('image'), ...CONVERSATIONS],
    );
    const table = await open(path);
    expect(await table.read(0)).toMatchObject({ ok: true, json: { image: 'a.png' } });
    expect(await table.read(1)).toMatchObject({ ok: true, json: { image: null } });
    await table.close();
  });

  it('refuses what is no dataset of conversations', async () => {
    const text3 = write('text.parquet', [{ name: 'text', data: ['a', 'b'] }], [text('text')]);
    await expect(open(text3)).rejects.toMatchObject({
      code: 'E_PARQUET_COLUMNS',
      message: expect.stringContaining('it has text.') as string,
    });
    await expect(open(await folder.write('cut.parquet', 'PAR1, cut'))).rejects.toMatchObject({
      code: 'E_PARQUET_BROKEN',
    });
  });

  it('refuses a row group that is too large to be read for each record, unless pages can be', async () => {
    const columns = [
      { name: 'messages', data: Array.from({ length: 10 }, (_, i) => `${i}`.repeat(200)) },
    ];
    for (const offsetIndex of [true, false]) {
      const name = `group-${offsetIndex}.parquet`;
      const file = await DataFile.open(write(name, columns, [text('messages')], { offsetIndex }));
      const indexed = indexParquet(file, 200);
      if (offsetIndex) expect((await indexed).count).toBe(10);
      else await expect(indexed).rejects.toMatchObject({ code: 'E_PARQUET_GROUPS' });
      await file.close();
    }
  });

  it('takes a broken page for a bad record', async () => {
    const path = write(
      'broken.parquet',
      [{ name: 'conversations', data: Array.from({ length: 10 }, (_, i) => turns(i)) }],
      CONVERSATIONS,
    );
    const bytes = await readFile(path);
    bytes.fill(0xff, 4, 200);
    const table = await open(await folder.write('broken.parquet', bytes));
    expect(await table.read(0)).toMatchObject({ ok: false, problem: { code: 'E_PARQUET_BROKEN' } });
    const texts: unknown[] = [];
    for await (const row of table.readTexts(0, 10)) texts.push(row);
    expect(texts).toEqual(Array.from({ length: 10 }));
    await table.close();
  });

  it('is known again by what its records say, not by its pictures', async () => {
    const digestOf = async (answer: string, red: number): Promise<string> => {
      const bytes = await pngBytes(red);
      const numbers = Array.from({ length: 30 }, (_, i) => i);
      const path = write(
        `${answer}-${red}.parquet`,
        [
          { name: 'image', data: numbers.map(() => ({ bytes, path: null })) },
          { name: 'unused', data: numbers.map(() => `${red}`) },
          { name: 'system', data: numbers.map((i) => (i === 15 ? answer : 'same')) },
          { name: 'conversations', data: numbers.map((i) => turns(i)) },
        ],
        [...IMAGE, text('unused'), text('system'), ...CONVERSATIONS],
      );
      const file = await DataFile.open(path);
      const { digest } = await indexParquet(file);
      await file.close();
      return digest;
    };
    const digest = await digestOf('left', 10);
    expect(await digestOf('left', 90)).toBe(digest);
    expect(await digestOf('lift', 10)).not.toBe(digest);
  });
});
