import fc from 'fast-check';
import {
  appendFileSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';

import { JsonLinesWriter, number, readJsonLines } from './json-lines.js';

let folder: string;
let path: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-lines-'));
  path = join(folder, 'metrics.jsonl');
});
beforeEach(() => rmSync(path, { force: true }));
afterAll(() => rmSync(folder, { recursive: true }));

function append(...values: object[]): void {
  const writer = new JsonLinesWriter(path);
  for (const value of values) writer.write(value);
  writer.sync();
  writer.close();
}

async function read(): Promise<unknown[]> {
  const values = [];
  for await (const { value } of readJsonLines(path)) values.push(value);
  return values;
}

test('what is written is read back, also over several openings', async () => {
  append({ update: 1, text: 'a\nb \u2028' }, { update: 2 });
  append({ update: 3 });
  expect(await read()).toEqual([{ update: 1, text: 'a\nb \u2028' }, { update: 2 }, { update: 3 }]);
});

test('numbers that JSON lacks stay visible', async () => {
  append({ loss: NaN, norm: -Infinity, deep: [{ x: Infinity }] });
  const [value] = (await read()) as Record<string, unknown>[];
  expect(value).toEqual({ loss: 'NaN', norm: '-Infinity', deep: [{ x: 'Infinity' }] });
  expect([value!['loss'], value!['norm'], 2.5, 'x', null].map(number)).toEqual([
    NaN,
    -Infinity,
    2.5,
    NaN,
    NaN,
  ]);
});

test('wherever a crash tears the file, all lines before are read and writing goes on', async () => {
  append({ update: 1 }, { update: 2, text: 'öl' }, { update: 3 });
  const whole = readFileSync(path);
  await fc.assert(
    fc.asyncProperty(fc.integer({ min: 0, max: whole.length }), async (length) => {
      writeFileSync(path, whole);
      truncateSync(path, length);
      const lines = whole.subarray(0, length).toString('latin1').split('\n').length - 1;
      const kept = await read();
      expect(kept.length - lines).toBeOneOf([0, 1]); // One more when only the newline is missing.
      append({ update: 9 });
      const after = await read();
      expect(after).toHaveLength(kept.length + 1);
      expect(after.at(-1)).toEqual({ update: 9 });
    }),
  );
});

test('a byte order mark and a last line without its end, as other programs leave them, lose nothing', async () => {
  writeFileSync(path, '\ufeff{"update":1}\r\n{"update":2}');
  append({ update: 3 });
  expect(await read()).toEqual([{ update: 1 }, { update: 2 }, { update: 3 }]);
});

test('a bad line in the middle names file and line', async () => {
  append({ update: 1 });
  appendFileSync(path, '\n{"update": \n{"update": 3}\n');
  await expect(read()).rejects.toMatchObject({
    code: 'E_JSON_LINE',
    exitCode: 4,
    message: expect.stringContaining(`${path}:3`) as string,
  });
});

test('a bad line in the middle is passed over where somebody is told of it', async () => {
  append({ update: 1 });
  appendFileSync(path, '\n{"update": \n{"update": 3}\n{"upd');
  const broken: number[] = [];
  const values: unknown[] = [];
  for await (const { value } of readJsonLines(path, { onBroken: (line) => broken.push(line) })) {
    values.push(value);
  }
  expect(values).toEqual([{ update: 1 }, { update: 3 }]);
  expect(broken).toEqual([3]);
});

test('a folder that cannot be written is a typed error', () => {
  writeFileSync(path, '');
  expect(() => new JsonLinesWriter(join(path, 'x.jsonl'))).toThrow(
    expect.objectContaining({ code: 'E_UNWRITABLE' }),
  );
});
