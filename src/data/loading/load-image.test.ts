import { pathToFileURL } from 'node:url';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { ImageSource } from '../records/record.js';
import { pngBytes, TestFolder } from '../testing.js';
import { loadImage } from './load-image.js';

let folder: TestFolder;
let png: Buffer;
beforeAll(async () => {
  folder = await TestFolder.make();
  png = await pngBytes(200);
  await folder.writeImage('deep/er/a b.png', 200);
});
afterAll(() => folder.remove());

const load = async (source: ImageSource): Promise<Uint8Array> => {
  const options = { size: 4, mode: 'crop', reading: 'turned', folder: folder.path } as const;
  return (await loadImage(source, { ...options, pictures: 1 })) as Uint8Array;
};

describe('the image of a record', () => {
  it.each<[string, () => ImageSource]>([
    ['a path below the folder', () => 'deep/er/a b.png'],
    ['an absolute path', () => folder.at('deep/er/a b.png')],
    ['a file: URL', () => pathToFileURL(folder.at('deep/er/a b.png')).href],
    ['a data: URL', () => `data:image/png;base64,${png.toString('base64')}`],
    ['bytes', () => ({ bytes: png, path: undefined })],
  ])('comes from %s', async (_, source) => {
    const pixels = await load(source());
    expect(pixels).toHaveLength(4 * 4 * 3);
    expect([...pixels.subarray(0, 3)]).toEqual([200, 10, 20]);
    // So that it can be handed to another thread without a copy.
    expect(pixels.byteLength).toBe(pixels.buffer.byteLength);
  });

  it.each<[string, ImageSource, string, string]>([
    ['no file', 'none.png', 'E_IMAGE_UNREADABLE', 'none.png: there is no such file.'],
    ['a folder', 'deep', 'E_IMAGE_UNREADABLE', 'deep: the path is no regular file.'],
    ['the network', 'https://a.org/b.png', 'E_IMAGE_UNREADABLE', 'not fetched from the network'],
    ['a host', 'file://host/a.png', 'E_IMAGE_UNREADABLE', 'the URL names no local file'],
    ['text', 'data:image/png,abc', 'E_IMAGE_UNREADABLE', 'it is not in base64'],
    ['rubbish', 'data:image/png;base64,////', 'E_IMAGE_TYPE', 'a data: URL: the content is no'],
    ['nothing', { bytes: new Uint8Array(), path: 'a.png' }, 'E_IMAGE_TRUNCATED', 'a.png: the file'],
  ])('is refused: %s', async (_, source, code, message) => {
    await expect(load(source)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message) as string,
    });
  });
});
