import {
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { packageRoot } from '../src/base/native-path.js';
import { zipOf } from '../src/formats/testing.js';
import { run } from './pickle.js';

const FIXTURES = join(packageRoot(), 'test', 'fixtures', 'pickle');
const { files } = JSON.parse(readFileSync(join(FIXTURES, 'expected.json'), 'utf8')) as {
  files: Record<string, { content?: string; tensors?: string }>;
};

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-parity-'));
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
});
afterEach(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

const printed = (): string => vi.mocked(console.log).mock.calls.join('\n');

test('every stored checkpoint is read as the reference reads it, or refused', async () => {
  expect(await run([FIXTURES, '--out', folder])).toBe(true);
  expect(printed()).toContain('quantities are within tolerance');
  const results = JSON.parse(readFileSync(join(folder, 'results.json'), 'utf8')) as Record<
    string,
    { loaded: boolean; code: string | null }
  >;
  expect(Object.keys(results)).toEqual(Object.keys(files));
  expect(results['ok/zip_views.pt']).toEqual({ loaded: true, code: null });
  expect(results['refuse/exec_eval.pt']).toEqual({ loaded: false, code: 'E_PICKLE_GLOBAL' });
  for (const { content, tensors } of Object.values(files)) {
    for (const path of [content, tensors]) {
      if (path === undefined) continue;
      // Python's own text and the reference writer's own bytes.
      expect(readFileSync(join(folder, path)), path).toEqual(readFileSync(join(FIXTURES, path)));
    }
  }
});

const originals = process.env['PATINA_FIXTURES'];
test.runIf(originals !== undefined)('the original folder too', async () => {
  expect(await run([join(originals ?? '', 'pickle')])).toBe(true);
});

test('without the answers it still writes, and says what it did not compare', async () => {
  const inputs = join(folder, 'inputs');
  for (const part of ['expected.json', 'ok', 'refuse']) {
    cpSync(join(FIXTURES, part), join(inputs, part), { recursive: true });
  }
  expect(await run([inputs, '--out', join(folder, 'out')])).toBe(true);
  expect(printed()).toContain('not compared: expect/zip_views_pt.json is absent');
  expect(existsSync(join(folder, 'out/expect/zip_views_pt.safetensors'))).toBe(true);
});

test('a difference, a missing file and a file that should have been refused fail', async () => {
  cpSync(FIXTURES, folder, { recursive: true });
  cpSync(join(folder, 'ok/zip_views.pt'), join(folder, 'ok/zip_shared.pt'));
  cpSync(join(folder, 'ok/zip_views.pt'), join(folder, 'refuse/exec_eval.pt'));
  rmSync(join(folder, 'ok/parameters.pt'));
  expect(await run([folder])).toBe(false);
  expect(printed()).toMatch(/zip_shared\.pt +2 +0 +FAIL +differs from/);
  expect(printed()).toMatch(/exec_eval\.pt +1 +0 +FAIL +loaded/);
  expect(printed()).toMatch(/parameters\.pt +1 +0 +FAIL +E_FILE_MISSING/);
});

test('what a refused file had made does not count for the next ones', async () => {
  // A megabyte, copied until the reader's limit of 256 MiB ends it: three such files are over what all may take together.
  const megabyte = 2 ** 20;
  const length = Buffer.alloc(4);
  length.writeUInt32LE(megabyte);
  const copy = 'cbuiltins\nbytearray\nh\0\x85R';
  const program = [
    Buffer.from('\x80\x02]B', 'latin1'),
    length,
    Buffer.alloc(megabyte),
    Buffer.from(`q\0a(${copy.repeat(300)}e.`, 'latin1'),
  ];
  const bomb = zipOf({ 'a/data.pkl': Buffer.concat(program), 'a/version': Buffer.from('3') });
  mkdirSync(join(folder, 'refuse'));
  const names = [1, 2, 3, 4].map((number) => `refuse/${number}.pt`);
  for (const name of names) writeFileSync(join(folder, name), bomb);
  const expected = Object.fromEntries(names.map((name) => [name, { kind: 'refuse' }]));
  writeFileSync(join(folder, 'expected.json'), JSON.stringify({ files: expected }));
  expect(await run([folder]), printed()).toBe(true);
  expect(printed()).toContain('E_PICKLE_LIMIT');
});
