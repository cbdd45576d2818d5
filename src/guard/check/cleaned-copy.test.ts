import { existsSync, mkdirSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { SchemaElement } from 'hyparquet';
import { parquetWriteFile } from 'hyparquet-writer';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { checkRecipe } from '../../config/index.js';
import { check } from './check.js';
import { FaultFolder, healthy, look, talk } from './testing.js';

let folder: FaultFolder;
let picture: string;
beforeEach(async () => {
  folder = new FaultFolder();
  picture = await folder.picture('noise.png');
});
afterEach(() => folder.remove());

const lines = (path: string): unknown[] =>
  readFileSync(path, 'utf8')
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as unknown);
const DATA_ONLY = { model: false, training: false };
/** Checks files alone. */
const clean = (fix: string, ...names: string[]) =>
  folder.check(
    { data: { sources: names.map((name) => folder.at(name)) } },
    { parts: DATA_ONLY, fix },
  );

test('keeps good records to the letter, and lists every one that is left out with its reasons', async () => {
  const id = '"id":12345678901234567890,';
  const good = `{${id} "conversations": [{"from":"human","value":"hi \\u00e9"},{"from":"gpt","value":"a"}]}`;
  const bad = [talk('x', 'q'), look('y', 'nowhere.png'), talk('z', 'q', '')];
  folder.write(
    'data.jsonl',
    [good, ...bad.map((each) => JSON.stringify(each)), 'no json', good].join('\n'),
  );
  const out = folder.at('clean.jsonl');
  const { summary } = await clean(out, 'data.jsonl');
  expect(readFileSync(out, 'utf8')).toBe(`${good}\n`);
  expect(summary.cleaned).toEqual({
    files: [out],
    kept: 1,
    leftOut: 5,
    list: `${out}.left-out.ndjson`,
  });
  expect(lines(summary.cleaned!.list)).toMatchObject([
    { source: folder.at('data.jsonl'), line: 2, id: 'x', reasons: [{ cause: 'no-supervision' }] },
    { line: 3, id: 'y', reasons: [{ cause: 'broken-image' }] },
    { line: 4, id: 'z', reasons: [{ cause: 'empty-answer' }] },
    { line: 5, id: null, reasons: [{ cause: 'unknown', code: 'E_RECORD_JSON' }] },
    { line: 6, reasons: [{ cause: 'duplicate-records' }] },
  ]);
  const again = await clean(folder.at('again'), 'clean.jsonl');
  expect(again.findings).toEqual([]);
});

test('pictures are found from another folder; an array becomes lines', async () => {
  folder.write('data.json', JSON.stringify(healthy(picture), null, 2));
  mkdirSync(folder.at('else'));
  const out = folder.at('else', 'clean.jsonl');
  await clean(out, 'data.json');
  const kept = lines(out) as { image?: string }[];
  expect(kept).toHaveLength(healthy(picture).length);
  expect(kept[1]).toEqual({ ...healthy(picture)[1], image: folder.at(picture) });
  expect(kept[0]).toEqual(healthy(picture)[0]);
});

test('several files become several, with names of their own', async () => {
  mkdirSync(folder.at('more'));
  folder.records(healthy(picture).slice(0, 1), 'one.jsonl');
  folder.records([talk('g', 'say seven', 'seven')], join('more', 'one.jsonl'));
  folder.records(healthy(picture).slice(0, 1), 'two.jsonl');
  const names = ['one.jsonl', join('more', 'one.jsonl'), 'two.jsonl'];
  const { summary } = await clean(folder.at('out'), ...names);
  // The last file says what the first said.
  expect(readdirSync(folder.at('out')).sort()).toEqual([
    'left-out.ndjson',
    'one-2.jsonl',
    'one.jsonl',
  ]);
  expect(summary.cleaned).toMatchObject({ kept: 2, leftOut: 1 });
});

test('Parquet becomes lines with their pictures within', async () => {
  const bytes = new Uint8Array(readFileSync(folder.at(picture)));
  const texts = [text('from'), text('value')];
  parquetWriteFile({
    filename: folder.at('data.parquet'),
    columnData: [
      { name: 'id', data: BigInt64Array.from([7n, 8n]) },
      { name: 'image', data: [{ bytes, path: 'x.png' }, null] },
      {
        name: 'conversations',
        data: [look('p', ''), talk('q', 'say', 'so')].map((each) => each['conversations']),
      },
    ],
    schema: [
      { name: 'root', num_children: 3 },
      { name: 'id', type: 'INT64', repetition_type: 'REQUIRED' },
      { name: 'image', repetition_type: 'OPTIONAL', num_children: 2 },
      ...[
        { name: 'bytes', type: 'BYTE_ARRAY', repetition_type: 'OPTIONAL' } as const,
        text('path'),
      ],
      {
        name: 'conversations',
        repetition_type: 'OPTIONAL',
        num_children: 1,
        converted_type: 'LIST',
      },
      { name: 'list', repetition_type: 'REPEATED', num_children: 1 },
      { name: 'element', repetition_type: 'OPTIONAL', num_children: 2 },
      ...texts,
    ],
  });
  const { findings, summary } = await clean(folder.at('clean.jsonl'), 'data.parquet');
  expect(findings).toEqual([]);
  expect(summary.cleaned).toMatchObject({ kept: 2, leftOut: 0 });
  const kept = lines(folder.at('clean.jsonl')) as { image?: string }[];
  expect(kept).toMatchObject([{ id: 7 }, { id: 8 }]);
  expect(kept[0]!.image).toBe(`data:image;base64,${Buffer.from(bytes).toString('base64')}`);
  const again = await clean(folder.at('again.jsonl'), 'clean.jsonl');
  expect(again).toMatchObject({ findings: [], summary: { records: 2, pictures: 1 } });
});

const text = (name: string): SchemaElement => ({
  name,
  type: 'BYTE_ARRAY',
  converted_type: 'UTF8',
  repetition_type: 'OPTIONAL',
});

test('nothing is overwritten, and nothing half written is left', async () => {
  folder.records(healthy(picture));
  await expect(clean(folder.at('data.jsonl'), 'data.jsonl')).rejects.toMatchObject({
    code: 'E_EXISTS',
  });
  folder.records(healthy(picture), 'more.jsonl');
  const out = folder.at('one-name.jsonl');
  await expect(clean(out, 'data.jsonl', 'more.jsonl')).rejects.toMatchObject({ code: 'E_USAGE' });
  const stop = new AbortController();
  const recipe = checkRecipe(folder.recipe());
  const stopped = check(recipe, {
    ...{ parts: DATA_ONLY, threads: 0, fix: out, signal: stop.signal },
    onProgress: () => stop.abort(new Error('stopped')),
  });
  folder.records(Array.from({ length: 200 }, (_, i) => talk(i, `say ${i}`, 'a')));
  await expect(stopped.next()).rejects.toThrow('stopped');
  expect(existsSync(out)).toBe(false);
  expect(readdirSync(folder.path).filter((name) => name.endsWith('.tmp'))).toEqual([]);
});
