import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { readWeightIndex } from './weight-index.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-index-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

const read = (text: string) => {
  const path = join(folder, 'index.json');
  writeFileSync(path, text);
  return readWeightIndex(path);
};

test('maps names to files', async () => {
  const map = await read('{"metadata":{},"weight_map":{"a":"x-1.safetensors","__proto__":"x-2"}}');
  expect([...map]).toEqual([
    ['a', 'x-1.safetensors'],
    ['__proto__', 'x-2'],
  ]);
});

test.each([
  ['[]', 'E_WEIGHT_INDEX'],
  ['{"weight_map":[]}', 'E_WEIGHT_INDEX'],
  ['{"weight_map":{"a":1}}', 'E_WEIGHT_INDEX'],
  ['{"weight_map":{"a":"../x"}}', 'E_WEIGHT_INDEX'],
  ['{"weight_map":{"a":"/etc/passwd"}}', 'E_WEIGHT_INDEX'],
  ['{"weight_map":{"a":".."}}', 'E_WEIGHT_INDEX'],
  ['{"weight_map":{"a":""}}', 'E_WEIGHT_INDEX'],
  ['{"weight_map":{"a":"x","a":"y"}}', 'E_JSON'],
  ['{', 'E_JSON'],
])('refuses %s', async (text, code) => {
  await expect(read(text)).rejects.toMatchObject({ code });
});
