import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, it } from 'vitest';

import { readImage, readImageFile } from './read-image.js';

const fixture = fileURLToPath(
  new URL('../../../test/fixtures/pixels/files/jpeg_420.jpg', import.meta.url),
);
let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-image-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

it('reads an image', async () => {
  const image = await readImage(fixture);
  expect([image.width, image.height, image.data.length]).toEqual([421, 283, 3 * 421 * 283]);
});

it('names the path of what is missing', async () => {
  const path = join(folder, 'none.jpg');
  await expect(readImage(path)).rejects.toMatchObject({
    code: 'E_IMAGE_UNREADABLE',
    exitCode: 4,
    message: `${path}: there is no such file.`,
  });
  await expect(readImage('a\0b.jpg')).rejects.toMatchObject({ code: 'E_IMAGE_UNREADABLE' });
});

it('refuses a folder, and a pipe without waiting for a writer', async () => {
  mkdirSync(join(folder, 'folder.jpg'));
  execFileSync('mkfifo', [join(folder, 'pipe.jpg')]);
  for (const name of ['folder.jpg', 'pipe.jpg']) {
    await expect(readImage(join(folder, name))).rejects.toMatchObject({
      code: 'E_IMAGE_UNREADABLE',
      message: `${join(folder, name)}: the path is no regular file.`,
    });
  }
});

it('does not read a file over the limit', async () => {
  const path = join(folder, 'long.jpg');
  writeFileSync(path, Buffer.alloc(2000));
  const limits = { bytes: 1999 };
  await expect(readImageFile(path, { limits })).rejects.toMatchObject({
    code: 'E_IMAGE_TOO_LARGE',
  });
  expect(await readImageFile(path)).toHaveLength(2000);
});

it('names the file as it is told to', async () => {
  const path = join(folder, 'empty.jpg');
  writeFileSync(path, '');
  await expect(readImage(path, { name: 'record 7' })).rejects.toThrow(
    'record 7: the file is empty.',
  );
});
