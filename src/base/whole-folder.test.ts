import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { writeWholeFolder } from './whole-folder.js';

let folder: string;
let target: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-whole-'));
  target = join(folder, 'deep/out');
});
afterEach(() => {
  chmodSync(folder, 0o700);
  rmSync(folder, { recursive: true });
});

const fill = (content: string) => (temporary: string) => {
  mkdirSync(join(temporary, 'sub'));
  writeFileSync(join(temporary, 'sub/file'), content);
};
const read = (): string => readFileSync(join(target, 'sub/file'), 'utf8');

test('writes a folder that is not visible before it is whole', async () => {
  const result = await writeWholeFolder(target, (temporary) => {
    fill('one')(temporary);
    expect(existsSync(target)).toBe(false);
    return 7;
  });
  expect(result).toBe(7);
  expect(read()).toBe('one');
  expect(readdirSync(join(folder, 'deep'))).toEqual(['out']);
});

test('leaves nothing when the writer fails or is stopped', async () => {
  const fault = new Error('half-way');
  const failing = writeWholeFolder(target, (temporary) => {
    fill('one')(temporary);
    throw fault;
  });
  await expect(failing).rejects.toBe(fault);
  const stop = new AbortController();
  const stopped = writeWholeFolder(target, () => stop.abort(), { signal: stop.signal });
  await expect(stopped).rejects.toThrow(/abort/);
  expect(readdirSync(join(folder, 'deep'))).toEqual([]);
});

test('an existing folder stays, unless it is to be replaced', async () => {
  await writeWholeFolder(target, fill('one'));
  await expect(writeWholeFolder(target, fill('two'))).rejects.toMatchObject({ code: 'E_EXISTS' });
  expect(read()).toBe('one');
  await writeWholeFolder(target, fill('two'), { replace: true });
  expect(read()).toBe('two');
  await expect(
    writeWholeFolder(
      target,
      () => {
        throw new Error('half-way');
      },
      { replace: true },
    ),
  ).rejects.toThrow('half-way');
  expect(read()).toBe('two');
  expect(readdirSync(join(folder, 'deep'))).toEqual(['out']);
});

test.each([
  ['ENOSPC', 'E_DISK_FULL'],
  ['EDQUOT', 'E_DISK_FULL'],
  ['EACCES', 'E_UNWRITABLE'],
])('%s becomes %s', async (system, code) => {
  const failing = writeWholeFolder(
    target,
    () => {
      throw Object.assign(new Error('low'), { code: system });
    },
    { what: 'checkpoint' },
  );
  await expect(failing).rejects.toMatchObject({
    code,
    exitCode: 3,
    message: expect.stringContaining('write the checkpoint') as string,
  });
});

test('a folder that may not be written to is a typed error', async () => {
  writeFileSync(join(folder, 'file'), '');
  await expect(writeWholeFolder(join(folder, 'file/out'), fill(''))).rejects.toMatchObject({
    code: 'E_UNWRITABLE',
  });
});
