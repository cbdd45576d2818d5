import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { expectWritable, writeWholeFile } from './whole-file.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-whole-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test('replaces a file and leaves nothing beside it', async () => {
  const path = join(folder, 'new/state.json');
  await writeWholeFile(path, 'one');
  await writeWholeFile(path, new Uint8Array([116, 119, 111]));
  expect(readFileSync(path, 'utf8')).toBe('two');
  expect(readdirSync(join(folder, 'new'))).toEqual(['state.json']);
});

test('a failure leaves the old file and nothing beside it', async () => {
  mkdirSync(join(folder, 'taken'));
  writeFileSync(join(folder, 'taken/x'), '');
  await expect(writeWholeFile(join(folder, 'taken'), 'text')).rejects.toThrow();
  expect(readdirSync(folder)).toEqual(['taken']);
});

test('what could not be written is known before', async () => {
  await expectWritable(join(folder, 'new/scores.jsonl'));
  await expect(expectWritable(folder)).rejects.toMatchObject({ code: 'EISDIR' });
  writeFileSync(join(folder, 'file'), '');
  await expect(expectWritable(join(folder, 'file/x'))).rejects.toMatchObject({ code: 'EEXIST' });
});
