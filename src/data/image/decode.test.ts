import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import sharp from 'sharp';
import { describe, expect, it } from 'vitest';

import { cases } from '../../base/testing.js';
import { decodeImage } from './decode.js';
import { imageSize } from './header.js';
import type { Reading, RgbImage } from './rgb-image.js';
import { ImageError } from './rgb-image.js';

const FIXTURES = fileURLToPath(new URL('../../../test/fixtures/', import.meta.url));

/** Every small file of the fixtures: each format with its traps. */
const samples = ['pixels/files', 'pixels-more/files', 'pixels/refused']
  .flatMap((folder) => readdirSync(join(FIXTURES, folder)).map((name) => join(folder, name)))
  .map((name) => ({ name, bytes: readFileSync(join(FIXTURES, name)) }))
  .filter(({ bytes }) => bytes.length < 9000);

/** Limits that keep a mutated size from costing time. */
const limits = { pixels: 4_000_000, seconds: 20 };

/** Decodes, or returns the error; what is neither an image of consistent size nor an ImageError fails the test. */
async function attempt(bytes: Uint8Array, name: string, reading: Reading) {
  const sized = (() => {
    try {
      return imageSize(bytes, { name, reading, limits });
    } catch (error) {
      return error;
    }
  })();
  let image: RgbImage;
  try {
    image = await decodeImage(bytes, { name, reading, limits });
  } catch (error) {
    expect(error).toBeInstanceOf(ImageError);
    expect((error as ImageError).message).toContain(`${name}: `);
    return error as ImageError;
  }
  const { width, height, data } = image;
  expect(sized).toEqual({ width, height });
  expect(data).toHaveLength(3 * width * height);
  return image;
}

const readings = fc.constantFrom<Reading>('turned', 'stored');
const sample = fc.constantFrom(...samples);
const fraction = fc.double({ min: 0, max: 1, noNaN: true, maxExcluded: true });

describe('decodeImage on damaged files', () => {
  it('decodes a truncated file or throws an ImageError that names it', async () => {
    await fc.assert(
      fc.asyncProperty(sample, fraction, readings, async ({ name, bytes }, part, reading) => {
        await attempt(bytes.subarray(0, Math.floor(part * bytes.length)), name, reading);
      }),
      { numRuns: cases(100) },
    );
  });

  it('decodes a mutated file or throws an ImageError that names it', async () => {
    const edit = fc.record({
      // Heads hold sizes and counts, so half of the edits go there.
      at: fc.oneof(fraction, fc.double({ min: 0, max: 0.02, noNaN: true })),
      kind: fc.constantFrom('set', 'flip', 'delete', 'insert'),
      value: fc.nat(255),
    });
    const edits = fc.array(edit, { minLength: 1, maxLength: 5 });
    await fc.assert(
      fc.asyncProperty(sample, edits, readings, async ({ name, bytes }, edits, reading) => {
        const mutated = [...bytes];
        for (const { at, kind, value } of edits) {
          const place = Math.floor(at * mutated.length);
          if (kind === 'set') mutated[place] = value;
          if (kind === 'flip') mutated[place] = (mutated[place] ?? 0) ^ (1 << (value & 7));
          if (kind === 'delete') mutated.splice(place, 1 + (value & 15));
          if (kind === 'insert') mutated.splice(place, 0, value, value ^ 0xff);
        }
        await attempt(Uint8Array.from(mutated), name, reading);
      }),
      { numRuns: cases(150) },
    );
  });

  it('throws an ImageError for any bytes behind a magic number', async () => {
    const magic = fc.constantFrom(
      '\xff\xd8\xff',
      '\x89PNG\r\n\x1a\n',
      'RIFF\x40\0\0\0WEBPVP8X',
      'GIF89a',
      'II*\0',
      'MM\0*',
      'II+\0',
      'BM',
      '',
    );
    await fc.assert(
      fc.asyncProperty(magic, fc.uint8Array({ maxLength: 120 }), async (start, tail) => {
        await attempt(Buffer.concat([Buffer.from(start, 'latin1'), tail]), 'noise', 'turned');
      }),
      { numRuns: cases(100) },
    );
  });
});

describe('decodeImage', () => {
  const file = (name: string) => readFileSync(join(FIXTURES, 'pixels', name));

  it('does not hold on to the memory of the caller', async () => {
    const bytes = file('files/bmp_24.bmp');
    const pool = Buffer.concat([Buffer.alloc(7), bytes, Buffer.alloc(7)]);
    const image = await decodeImage(pool.subarray(7, 7 + bytes.length), { name: 'a.bmp' });
    expect(image).toEqual(await decodeImage(bytes, { name: 'a.bmp' }));
  });

  it('classifies what it refuses', async () => {
    const code = async (name: string) =>
      decodeImage(file(`refused/${name}`), { name }).then(
        () => 'read',
        (error: unknown) => (error as ImageError).code,
      );
    expect(await code('truncated.jpg')).toBe('E_IMAGE_TRUNCATED');
    expect(await code('truncated.png')).toBe('E_IMAGE_TRUNCATED');
    expect(await code('empty.jpg')).toBe('E_IMAGE_TRUNCATED');
    expect(await code('drawing.jpg')).toBe('E_IMAGE_TYPE');
    expect(await code('page.jpg')).toBe('E_IMAGE_TYPE');
    expect(await code('bomb_14000x14000.png')).toBe('E_IMAGE_TOO_LARGE');
    expect(await code('bad_crc.png')).toBe('E_IMAGE_BROKEN');
    expect(await code('zero_width.png')).toBe('E_IMAGE_BROKEN');
  });

  it('refuses a GIF whose first frame has no pixel', async () => {
    const gif = Buffer.from('GIF89a\x02\0\x02\0\0\0\0,\0\0\0\0\0\0\0\0\0\x02\x01\x2c\0;', 'latin1');
    await expect(decodeImage(gif, { name: 'a.gif' })).rejects.toMatchObject({
      code: 'E_IMAGE_BROKEN',
      message: expect.stringContaining('0 x 0 pixels') as string,
    });
  });

  it('uses a block of a GIF only where the file holds all of it', async () => {
    const gif = (length: string) =>
      Buffer.from(`GIF89a\x01\0\x01\0\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02${length}\x44\x01`, 'latin1');
    const { data } = await decodeImage(gif('\x02'), { name: 'a.gif' });
    expect([...data]).toEqual([0, 0, 0]);
    await expect(decodeImage(gif('\x05'), { name: 'a.gif' })).rejects.toMatchObject({
      code: 'E_IMAGE_TRUNCATED',
    });
  });

  it('refuses a JPEG in whose data stands a marker that cannot be there', async () => {
    for (const marker of [0x96, 0xd8, 0xc0, 0xda, 0xf7]) {
      const bytes = Buffer.from(file('files/jpeg_444.jpg'));
      bytes.writeUInt16BE(0xff00 + marker, Math.floor(bytes.length * 0.7));
      await expect(decodeImage(bytes, { name: 'a.jpg' })).rejects.toMatchObject({
        code: 'E_IMAGE_BROKEN',
        message: expect.stringContaining(`stray marker 0xff${marker.toString(16)}`) as string,
      });
    }
  });

  it.each([
    [{ bytes: 100 }, 'bytes, over the limit of 100'],
    [{ pixels: 500 }, '61 x 41 pixels, over the limit of 500'],
    [{ side: 60 }, '60 along a side'],
  ])('keeps the limits %j', async (limits, message) => {
    const options = { name: 'bmp_24.bmp', limits };
    await expect(decodeImage(file('files/bmp_24.bmp'), options)).rejects.toMatchObject({
      code: 'E_IMAGE_TOO_LARGE',
      message: expect.stringContaining(message) as string,
    });
    expect(() => imageSize(file('files/bmp_24.bmp'), options)).toThrow(ImageError);
  });

  it('undoes each orientation', async () => {
    const upright = await decodeImage(file('files/exif_1.jpg'), { name: 'exif_1.jpg' });
    const corner = ({ width, height, data }: RgbImage, right: boolean, bottom: boolean) => {
      const at = 3 * ((bottom ? height - 3 : 2) * width + (right ? width - 3 : 2));
      return [...data.subarray(at, at + 3)].map((value) => Math.round(value / 255)).join('');
    };
    // As stored: red top left, green top right, blue bottom left.
    expect(corner(upright, false, false) + corner(upright, true, false)).toBe('100010');
    const turned = await decodeImage(file('files/exif_6.jpg'), { name: 'exif_6.jpg' });
    expect([turned.width, turned.height]).toEqual([upright.height, upright.width]);
    expect(corner(turned, true, false) + corner(turned, true, true)).toBe('100010');
    const stored = await decodeImage(file('files/exif_6.jpg'), { name: 'x', reading: 'stored' });
    expect(stored).toEqual(upright);
  });

  it('reads a large palette image without a profile as sharp wrote it', async () => {
    const pixels = Buffer.from(Array.from({ length: 3 * 64 * 48 }, (_, i) => (i * 7) % 256));
    const png = await sharp(pixels, { raw: { width: 64, height: 48, channels: 3 } })
      .png({ compressionLevel: 1 })
      .toBuffer();
    const image = await decodeImage(png, { name: 'a.png' });
    expect(Buffer.from(image.data).equals(pixels)).toBe(true);
  });
});
