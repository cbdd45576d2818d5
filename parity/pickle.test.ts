import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, expect, test, vi } from 'vitest';

import { packageRoot } from '../src/base/native-path.js';
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
