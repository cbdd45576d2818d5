import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { requireWritable, type TargetKind } from './writable.js';

let folder: string;
const at = (...parts: string[]): string => join(folder, ...parts);
const tree = (): string[] => readdirSync(folder, { recursive: true, encoding: 'utf8' }).sort();

beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-writable-'));
  mkdirSync(at('taken'));
  writeFileSync(at('taken', 'file'), 'text');
  symlinkSync(at('nowhere'), at('link'));
});
afterEach(() => rmSync(folder, { recursive: true }));

test.each<[string, TargetKind]>([
  ['a file that is new', 'file'],
  ['new/folders/file', 'file'],
  ['taken/file', 'file'],
  ['new/folders/log', 'log'],
  ['taken/file', 'log'],
  ['new/folder', 'folder'],
  ['new/folder/', 'folder'],
  ['taken', 'folder'],
  ['taken', 'parent'],
  ['new/folder', 'parent'],
])('%s can be written as a %s, and nothing changes', async (path, kind) => {
  const before = tree();
  await requireWritable(at(path), 'write the report', kind);
  expect(tree()).toEqual(before);
  expect(readFileSync(at('taken', 'file'), 'utf8')).toBe('text');
});

test.each<[string, TargetKind, string]>([
  ['taken', 'file', 'it is a folder.'],
  ['taken', 'log', 'it is a folder.'],
  ['new/', 'file', 'it is a folder.'],
  ['taken/file/below/report', 'file', 'a part of that path is a file, not a folder (ENOTDIR).'],
  ['taken/file/below', 'log', 'a part of that path is a file, not a folder (ENOTDIR).'],
  ['taken/file/below', 'folder', 'a part of that path is a file, not a folder (ENOTDIR).'],
  ['x'.repeat(300), 'file', 'the name is too long (ENAMETOOLONG).'],
  ['taken/file', 'parent', 'a part of that path is a file, not a folder (ENOTDIR).'],
  ['link/below/report', 'folder', 'its folder is not there (ENOENT).'],
])('%s as a %s is refused: %s', async (path, kind, why) => {
  const before = tree();
  await expect(requireWritable(at(path), 'write the report', kind)).rejects.toMatchObject({
    message: `Could not write the report at ${at(path)}: ${why}`,
    code: 'E_UNWRITABLE',
    hint: expect.stringMatching(/^(Name|Choose|Was it)/) as string,
  });
  expect(tree()).toEqual(before);
});

test('no name is that of the folder where one works', async () => {
  await expect(requireWritable('', 'write the report')).rejects.toMatchObject({
    message: `Could not write the report at ${process.cwd()}: it is a folder.`,
    hint: 'Name a file in it.',
  });
});

test('a device is no file that could be replaced', async () => {
  await expect(requireWritable('/dev/null', 'write the report')).rejects.toMatchObject({
    code: 'E_UNWRITABLE',
    message: expect.stringContaining('a device or a pipe') as string,
  });
});

test.each<[string, TargetKind]>([
  ['taken/new', 'file'],
  ['taken/new', 'folder'],
  ['taken/file', 'log'],
])('%s as a %s without the right to write is refused', async (path, kind) => {
  chmodSync(folder, 0o755);
  chmodSync(at('taken'), 0o555);
  chmodSync(at('taken', 'file'), 0o444);
  // Root may write everywhere, so it becomes nobody for a moment.
  const isRoot = process.geteuid!() === 0;
  if (isRoot) process.seteuid!(65534);
  try {
    await expect(requireWritable(at(path), 'write the report', kind)).rejects.toMatchObject({
      code: 'E_UNWRITABLE',
      message: expect.stringMatching(/you have no right to write there \(EACCES\)\.$/) as string,
    });
  } finally {
    if (isRoot) process.seteuid!(0);
    chmodSync(at('taken'), 0o755);
  }
});
