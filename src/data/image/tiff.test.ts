import { describe, expect, it } from 'vitest';

import { decodeImage } from './decode.js';

interface Tags {
  photometric: number;
  bits: number;
  samples?: number;
  format?: number;
  extra?: number[];
  /** @default little-endian */
  big?: boolean;
}

/** An uncompressed TIFF of 2 x 2 pixels whose bytes count up. */
function tiff({
  photometric,
  bits,
  samples = 1,
  format = 1,
  extra = [],
  big = false,
}: Tags): Buffer {
  const data = Buffer.from(Array.from({ length: (4 * samples * bits) / 8 }, (_, i) => i + 1));
  const entries: [tag: number, type: 3 | 4, values: number[]][] = [
    [256, 4, [2]],
    [257, 4, [2]],
    [258, 3, Array<number>(samples).fill(bits)],
    [259, 3, [1]],
    [262, 3, [photometric]],
    [273, 4, [0]],
    [277, 3, [samples]],
    [278, 4, [2]],
    [279, 4, [data.length]],
    ...(extra.length > 0 ? [[338, 3, extra] as [number, 3, number[]]] : []),
    [339, 3, Array<number>(samples).fill(format)],
  ];
  const file = Buffer.alloc(1024);
  const u16 = (value: number, at: number) =>
    big ? file.writeUInt16BE(value, at) : file.writeUInt16LE(value, at);
  const u32 = (value: number, at: number) =>
    big ? file.writeUInt32BE(value, at) : file.writeUInt32LE(value, at);
  file.write(big ? 'MM\0*' : 'II*\0', 'latin1');
  u32(8, 4);
  u16(entries.length, 8);
  let far = 512;
  entries.forEach(([tag, type, values], i) => {
    const at = 10 + 12 * i;
    const width = type === 3 ? 2 : 4;
    u16(tag, at);
    u16(type, at + 2);
    u32(values.length, at + 4);
    let to = at + 8;
    if (width * values.length > 4) {
      u32(far, to);
      to = far;
      far += width * values.length;
    }
    values.forEach((value, k) => {
      if (type === 3) u16(value, to + 2 * k);
      else u32(tag === 273 ? 768 : value, to + 4 * k);
    });
  });
  data.copy(file, 768);
  return file.subarray(0, 768 + data.length);
}

describe('a TIFF', () => {
  it.each<[string, Tags]>([
    ['RGB of floats', { photometric: 2, bits: 32, samples: 3, format: 3 }],
    ['RGB of signed bytes', { photometric: 2, bits: 8, samples: 3, format: 2 }],
    ['five samples, one of them named', { photometric: 2, bits: 8, samples: 5, extra: [0] }],
    ['16-bit grey with alpha', { photometric: 1, bits: 16, samples: 2, extra: [2] }],
    ['two samples of grey, none named', { photometric: 1, bits: 8, samples: 2 }],
    ['16-bit white is zero, big-endian', { photometric: 0, bits: 16, big: true }],
    ['32-bit grey without a sign, big-endian', { photometric: 1, bits: 32, big: true }],
    ['64-bit grey', { photometric: 1, bits: 64, format: 3 }],
    ['a palette of 16 bits', { photometric: 3, bits: 16 }],
  ])('that Pillow has no mode for is refused: %s', async (_, tags) => {
    await expect(decodeImage(tiff(tags), { name: 'a.tif' })).rejects.toMatchObject({
      code: 'E_IMAGE_TYPE',
    });
  });

  it('whose palette is cut off is refused', async () => {
    const file = tiff({ photometric: 3, bits: 8 });
    await expect(decodeImage(file, { name: 'a.tif' })).rejects.toMatchObject({
      code: 'E_IMAGE_TRUNCATED',
    });
  });

  it('that Pillow has a mode for is read', async () => {
    const pixels = async (tags: Tags) => [
      ...(await decodeImage(tiff(tags), { name: 'a.tif', reading: 'stored' })).data,
    ];
    const rgb = Array.from({ length: 12 }, (_, i) => i + 1);
    const grey = (...values: number[]) => values.flatMap((value) => [value, value, value]);
    expect(await pixels({ photometric: 2, bits: 8, samples: 3 })).toEqual(rgb);
    expect(await pixels({ photometric: 2, bits: 8, samples: 5, extra: [2, 0] })).toEqual([
      ...[1, 2, 3, 6, 7, 8, 11, 12, 13, 16, 17, 18],
    ]);
    expect(await pixels({ photometric: 1, bits: 8, big: true })).toEqual(grey(1, 2, 3, 4));
    expect(await pixels({ photometric: 0, bits: 8 })).toEqual(grey(254, 253, 252, 251));
    expect(await pixels({ photometric: 1, bits: 16, big: true })).toEqual(grey(255, 255, 255, 255));
  });
});
