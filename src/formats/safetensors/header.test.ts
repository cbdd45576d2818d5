import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { PatinaError } from '../../base/errors.js';
import { cases } from '../../base/testing.js';
import { readSpan } from '../stored.js';
import { damage, PICKLES } from '../testing.js';
import { readSafetensors, readSafetensorsBytes } from './header.js';
import { encodeSafetensors } from './write.js';

/** A file of this header and so many bytes of tensors. */
function file(header: string, bytes = 0): Uint8Array {
  const text = Buffer.from(header);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, Buffer.alloc(bytes)]);
}

const one = (fields: string): string => `{"a":{${fields}}}`;
const sound = '"dtype":"F32","shape":[2],"data_offsets":[0,8]';
const refused = (bytes: Uint8Array) => expect(readSafetensorsBytes('x.safetensors', bytes)).rejects;

test('reads the places of tensors, in the order of the file', async () => {
  const header = `{"b":{"dtype":"BF16","shape":[],"data_offsets":[8,10]},"a":{${sound}},"__metadata__":{"format":"pt"}}`;
  const { metadata, tensors } = await readSafetensorsBytes('x', file(header, 10));
  expect([...metadata]).toEqual([['format', 'pt']]);
  const start = 8 + header.length;
  expect(tensors).toEqual([
    { name: 'a', dtype: 'F32', shape: [2], file: 'x', offset: start, bytes: 8 },
    { name: 'b', dtype: 'BF16', shape: [], file: 'x', offset: start + 8, bytes: 2 },
  ]);
});

test('tensors without elements may lie anywhere at a border', async () => {
  const empty = '"dtype":"F32","shape":[0,3],"data_offsets":[8,8]';
  const { tensors } = await readSafetensorsBytes('x', file(`{"e":{${empty}},"a":{${sound}}}`, 8));
  expect(tensors.map(({ name, bytes }) => [name, bytes])).toEqual([
    ['a', 8],
    ['e', 0],
  ]);
});

describe('refuses', () => {
  test.each<[string, Uint8Array, string, RegExp]>([
    ['no bytes', new Uint8Array(), 'E_WRONG_KIND', /empty/],
    ['five bytes', new Uint8Array(5), 'E_SAFETENSORS', /5 bytes/],
    ['a header beyond the end', file('{}').subarray(0, 9), 'E_SAFETENSORS', /announces/],
    [
      'a header of 2^60 bytes',
      Buffer.from('0000000000000010', 'hex'),
      'E_SAFETENSORS',
      /announces/,
    ],
    ['no JSON', file('{x}'), 'E_JSON', /header/],
    ['no UTF-8', file('{"\xff":1}').fill(0xff, 10, 11), 'E_JSON', /header/],
    ['a list', file('[]'), 'E_SAFETENSORS', /no object/],
    [
      'a tensor named twice',
      file(`{"a":{${sound}},"a":{${sound}}}`, 8),
      'E_JSON',
      /"a" occurs twice/,
    ],
    ['the same name escaped', file(`{"a":{${sound}},"\\u0061":{${sound}}}`, 8), 'E_JSON', /twice/],
    [
      'a field given twice',
      file(one(`${sound},"dtype":"I32"`), 8),
      'E_JSON',
      /"dtype" occurs twice/,
    ],
    ['metadata of numbers', file('{"__metadata__":{"a":1}}'), 'E_SAFETENSORS', /__metadata__/],
    ['a tensor that is none', file('{"a":1}'), 'E_SAFETENSORS', /"a" is no object/],
    ['an unknown type', file(one(sound.replace('F32', 'F7')), 8), 'E_SAFETENSORS', /dtype "F7"/],
    ['no type', file(one('"shape":[2],"data_offsets":[0,8]'), 8), 'E_SAFETENSORS', /dtype missing/],
    ['a negative size', file(one(sound.replace('[2]', '[-2]')), 8), 'E_SAFETENSORS', /shape/],
    ['a size in text', file(one(sound.replace('[2]', '["2"]')), 8), 'E_SAFETENSORS', /shape/],
    ['a huge size', file(one(sound.replace('[2]', '[1e300]')), 8), 'E_SAFETENSORS', /shape/],
    [
      'sizes that overflow',
      file(one(sound.replace('[2]', '[9e15,9e15]')), 8),
      'E_SAFETENSORS',
      /takes/,
    ],
    [
      '65 dimensions',
      file(one(sound.replace('[2]', `[${'1,'.repeat(64)}2]`)), 8),
      'E_SAFETENSORS',
      /shape/,
    ],
    ['one offset', file(one(sound.replace('[0,8]', '[8]')), 8), 'E_SAFETENSORS', /data_offsets/],
    [
      'offsets that disagree',
      file(one(sound.replace('[0,8]', '[0,4]')), 8),
      'E_SAFETENSORS',
      /say 4/,
    ],
    [
      'an end before the start',
      file(one(sound.replace('[0,8]', '[8,0]')), 8),
      'E_SAFETENSORS',
      /say -8/,
    ],
    ['a gap', file(one(sound.replace('[0,8]', '[1,9]')), 9), 'E_SAFETENSORS', /gap/],
    ['an overlap', file(`{"a":{${sound}},"b":{${sound}}}`, 8), 'E_SAFETENSORS', /overlaps/],
    ['bytes that are missing', file(one(sound), 7), 'E_SAFETENSORS', /end at byte/],
    ['bytes nobody declares', file(one(sound), 9), 'E_SAFETENSORS', /end at byte/],
  ])('%s', async (_, bytes, code, message) => {
    await refused(bytes).toMatchObject({ code, message: expect.stringMatching(message) as string });
  });

  test('files of other kinds by name', async () => {
    const page = Buffer.from('<!DOCTYPE html><html></html>');
    await refused(page).toMatchObject({ code: 'E_WRONG_KIND' });
    const zip = readFileSync(join(PICKLES, 'ok/zip_views.pt'));
    await refused(zip).toMatchObject({
      code: 'E_WRONG_KIND',
      hint: expect.stringMatching('.pth') as string,
    });
  });
});

test('a header nested a million deep is refused without walking into it', async () => {
  const deep = `${'['.repeat(1e6)}${']'.repeat(1e6)}`;
  for (const value of [deep, `{"dtype":${deep}}`]) {
    // Recursion would overflow the stack, which is no error of ours; a walk would show in the message.
    await refused(file(`{"a":${value}}`)).toMatchObject({
      code: 'E_SAFETENSORS',
      message: expect.stringMatching(/^.{1,120}$/) as string,
    });
  }
});

test('damaged files give tensors within the file or a typed error', async () => {
  const folder = join(PICKLES, 'expect');
  const files = readdirSync(folder)
    .filter((name) => name.endsWith('.safetensors'))
    .map((name) => readFileSync(join(folder, name)));
  await fc.assert(
    fc.asyncProperty(fc.constantFrom(...files), damage, async (bytes, harm) => {
      const damaged = harm(bytes);
      try {
        const { tensors } = await readSafetensorsBytes('damaged', damaged);
        for (const { offset, bytes: length } of tensors) {
          expect(offset + length).toBeLessThanOrEqual(damaged.length);
        }
      } catch (error) {
        expect(error).toBeInstanceOf(PatinaError);
      }
    }),
    { numRuns: cases(500) },
  );
});

test('bytes come from the file', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'patina-safetensors-'));
  try {
    const path = join(folder, 'x.safetensors');
    const data = new Uint8Array([1, 2, 3]);
    writeFileSync(path, encodeSafetensors([{ name: 'a', dtype: 'U8', shape: [3], data }]));
    const { tensors } = await readSafetensors(path);
    expect(await readSpan(tensors[0]!)).toEqual(data);
    await expect(readSafetensors(join(folder, 'y'))).rejects.toMatchObject({
      code: 'E_FILE_MISSING',
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
