import { utimes } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { DataError } from '../../base/errors.js';
import { TestFolder } from '../testing.js';
import { DataFile } from './data-file.js';
import { indexJson, JsonTable, type JsonTableSpec } from './json-table.js';
import { describePlace } from './place.js';

let folder: TestFolder;
beforeAll(async () => {
  folder = await TestFolder.make();
});
afterAll(() => folder.remove());

async function index(content: string | Uint8Array): Promise<JsonTableSpec> {
  const file = await DataFile.open(await folder.write('data.json', content));
  try {
    return await indexJson(file);
  } finally {
    await file.close();
  }
}

/** What every record is read as: its JSON, or the code of its problem. */
async function readAll(content: string | Uint8Array): Promise<unknown[]> {
  const spec = await index(content);
  const table = await JsonTable.open(spec);
  const records: unknown[] = [];
  for (let i = 0; i < spec.count; i++) {
    const read = await table.read(i);
    records.push(read.ok ? read.json : read.problem.code);
  }
  await table.close();
  return records;
}

describe('a table of JSON', () => {
  it.each<[string, string | Uint8Array, unknown[]]>([
    ['an array', '[{"a":1},{"a":"é"}]', [{ a: 1 }, { a: 'é' }]],
    ['lines, called .json', '{"a":1}\n{"a":2}', [{ a: 1 }, { a: 2 }]],
    ['lines of Windows, blank ones between', '{"a":1}\r\n\r\n \n{"a":2}\r\n', [{ a: 1 }, { a: 2 }]],
    ['a mark of UTF-8', '\ufeff[{"a":1}]', [{ a: 1 }]],
    ['a mark before lines', '\ufeff{"a":1}\n', [{ a: 1 }]],
    ['an empty array', ' [ ] ', []],
    ['nothing', '', []],
    ['blanks', ' \n\n', []],
    ['a broken line', '{"a":1}\n{"a":\n{"a":3}\n', [{ a: 1 }, 'E_RECORD_JSON', { a: 3 }]],
    ['a broken element', '[{"a":1},{"a":x},null]', [{ a: 1 }, 'E_RECORD_JSON', null]],
    ['other encodings', Buffer.from('{"a":"\xe9"}\n{}', 'latin1'), ['E_RECORD_TEXT', {}]],
  ])('reads %s', async (_, content, records) => {
    expect(await readAll(content)).toEqual(records);
  });

  it('knows the id of a record with a byte too many, unless that is in the id', async () => {
    const lines = '{"id":"a","b":"\xe9"}\n{"id":7,"b":"\xe9"}\n{"id":"\xe9"}\n{"id":"a\xe9';
    const table = await JsonTable.open(await index(Buffer.from(lines, 'latin1')));
    const reads = await Promise.all([0, 1, 2, 3].map((i) => table.read(i)));
    await table.close();
    expect(reads).toMatchObject(['a', 7, null, null].map((id) => ({ ok: false, id })));
  });

  it('says where a record stands', async () => {
    const place = async (content: string): Promise<string> => {
      const table = await JsonTable.open(await index(content));
      const { file, ...rest } = table.place(1);
      await table.close();
      return describePlace({ ...rest, file: file.slice(-9) });
    };
    expect(await place('{}\n{}\n')).toBe('data.json:2');
    expect(await place('[{},{}]')).toBe('data.json:1 (record 2)');
    expect(describePlace({ file: 'a.parquet', record: 2, line: null })).toBe(
      'a.parquet (record 2)',
    );
  });

  it.each([
    ['id,text\n', 'E_DATA_FORMAT', 'it begins with "id,text\\n"'],
    [Uint8Array.of(0x1f, 0x8b, 8), 'E_DATA_FORMAT', 'it begins with the bytes 1f8b08'],
    ['[{"a":1}', 'E_DATA_JSON', 'is not a JSON array: the file ends inside of record 1'],
  ])('refuses what is no JSON: %j', async (content, code, reason) => {
    await expect(index(content)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(reason) as string,
    });
  });

  it('refuses a file that has changed, is gone or is a folder', async () => {
    const spec = await index('[{}]');
    await utimes(spec.path, 1, 1);
    await expect(JsonTable.open(spec)).rejects.toMatchObject({ code: 'E_DATA_CHANGED' });
    await expect(DataFile.open(folder.at('none'))).rejects.toMatchObject({ code: 'E_DATA_READ' });
    await expect(DataFile.open(folder.path)).rejects.toThrow(DataError);
  });

  it('stops at a signal', async () => {
    const file = await DataFile.open(await folder.write('data.json', '[{}]'));
    await expect(indexJson(file, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
    await file.close();
  });
});
