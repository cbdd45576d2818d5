import { deflateRawSync } from 'node:zlib';

import { describe, expect, test } from 'vitest';

import { memorySource } from './source.js';
import { zipOf } from './testing.js';
import { ZipArchive } from './zip.js';

const archive = zipOf({ 'a/one': Buffer.from('first'), 'a/two': Buffer.from('second') });
const directoryAt = archive.indexOf('PK\x01\x02');

const open = (bytes: Uint8Array) => ZipArchive.open(memorySource('x.zip', bytes));
/** The archive with a field of its directory's first entry, or of the end record, replaced. */
function patched(offset: number, value: number, size: 2 | 4): Uint8Array {
  const bytes = Buffer.from(archive);
  bytes.writeUIntLE(value, offset, size);
  return bytes;
}

test('finds entries and reads them', async () => {
  const zip = await open(archive);
  expect([...zip.entries.keys()]).toEqual(['a/one', 'a/two']);
  const entry = zip.entries.get('a/two')!;
  expect(Buffer.from(await zip.read(entry, 100)).toString()).toBe('second');
  const at = await zip.locate(entry);
  expect(archive.subarray(at, at + entry.size).toString()).toBe('second');
});

test('an entry over the limit is not read', async () => {
  const zip = await open(archive);
  await expect(zip.read(zip.entries.get('a/two')!, 3)).rejects.toMatchObject({
    code: 'E_ZIP_TOO_LARGE',
  });
});

describe('refuses', () => {
  const end = archive.length - 22;
  test.each<[string, Uint8Array, string]>([
    ['more entries than announced', patched(end + 8, 1, 2), 'E_ZIP'],
    ['a directory elsewhere', patched(end + 16, 1, 4), 'E_ZIP'],
    ['several disks', patched(end + 4, 1, 2), 'E_ZIP'],
    ['encrypted entries', patched(directoryAt + 8, 1, 2), 'E_ZIP_UNSUPPORTED'],
    ['unknown methods', patched(directoryAt + 10, 93, 2), 'E_ZIP_UNSUPPORTED'],
    ['sizes that differ', patched(directoryAt + 24, 4, 4), 'E_ZIP'],
    ['overlapping entries', patched(directoryAt + 42, 36, 4), 'E_ZIP'],
    ['a long name', patched(directoryAt + 28, 60_000, 2), 'E_ZIP'],
    ['a missing Zip64 value', patched(directoryAt + 42, 0xffffffff, 4), 'E_ZIP'],
    ['trailing bytes', Buffer.concat([archive, Buffer.from('x')]), 'E_ZIP'],
    ['leading bytes', Buffer.concat([Buffer.from('x'), archive]), 'E_ZIP'],
  ])('%s', async (_, bytes, code) => {
    await expect(open(bytes)).rejects.toMatchObject({ code });
  });

  test.each(['../x', '/x', 'a//b', 'a/./b', 'a\\b', 'a\0b', ''])('the name %j', async (name) => {
    await expect(open(zipOf({ [name]: Buffer.from('x') }))).rejects.toMatchObject({
      code: 'E_ZIP',
    });
  });

  test('a local header that tells something else', async () => {
    const zip = await open(patched(18, 4, 4));
    await expect(zip.locate(zip.entries.get('a/one')!)).rejects.toMatchObject({ code: 'E_ZIP' });
  });

  test('deflated content of another size', async () => {
    const packed = deflateRawSync(Buffer.alloc(100));
    const bytes = Buffer.from(zipOf({ 'a/x': packed }));
    const directory = bytes.indexOf('PK\x01\x02');
    for (const at of [8, directory + 10]) bytes.writeUInt16LE(8, at);
    for (const size of [99, 101]) {
      for (const at of [22, directory + 24]) bytes.writeUInt32LE(size, at);
      const zip = await open(bytes);
      await expect(zip.read(zip.entries.get('a/x')!, 1000)).rejects.toMatchObject({
        code: 'E_ZIP',
      });
    }
  });
});
