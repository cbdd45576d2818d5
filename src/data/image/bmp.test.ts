import { describe, expect, it } from 'vitest';

import { decodeBmp } from './bmp.js';

const PALETTE = [
  [0, 0, 0],
  [255, 0, 0],
  [0, 255, 0],
  [0, 0, 255],
];

/** A bitmap with the palette above. */
function bitmap(width: number, height: number, bits: number, compression: number, data: number[]) {
  const head = Buffer.alloc(54);
  head.write('BM');
  head.writeUInt32LE(54 + 16, 10);
  head.writeUInt32LE(40, 14);
  head.writeInt32LE(width, 18);
  head.writeInt32LE(height, 22);
  head.writeUInt16LE(bits, 28);
  head.writeUInt32LE(compression, 30);
  head.writeUInt32LE(4, 46);
  const palette = PALETTE.flatMap(([red, green, blue]) => [blue!, green!, red!, 0]);
  return Buffer.concat([head, Buffer.from(palette), Buffer.from(data)]);
}

/** The picture as indices of the palette, rows from the top. */
function indices(file: Buffer): string[] {
  const { width, height, data } = decodeBmp(file, 'a.bmp');
  return Array.from({ length: height }, (_, y) =>
    Array.from({ length: width }, (_, x) => {
      const at = 3 * (y * width + x);
      return PALETTE.findIndex((colour) => colour.every((value, c) => value === data[at + c]));
    }).join(''),
  );
}

describe('decodeBmp', () => {
  it('reads rows from the bottom, or from the top where the height is negative', () => {
    const rows = [0x12, 0x30, 0, 0, 0x32, 0x10, 0, 0];
    expect(indices(bitmap(3, 2, 4, 0, rows))).toEqual(['321', '123']);
    expect(indices(bitmap(3, -2, 4, 0, rows))).toEqual(['123', '321']);
  });

  it('needs no more colours than its pixels can name, however many are announced', () => {
    const file = bitmap(3, 1, 4, 0, [0x12, 0x30, 0, 0]);
    file.writeUInt32LE(53_264, 46);
    const all = Buffer.concat([file.subarray(0, 70), Buffer.alloc(48), file.subarray(70)]);
    all.writeUInt32LE(54 + 64, 10);
    expect(indices(all)).toEqual(['123']);
  });

  it('unpacks runs, literals, ends of lines and jumps of RLE8', () => {
    const bottom = [2, 1, 0, 3, 2, 3, 2, 0]; // 11, then 232 and a byte to fill the word
    const jump = [0, 0, 0, 2, 1, 1, 4, 3, 0, 1]; // end of line; one right, one up; a run of 4
    expect(indices(bitmap(5, 3, 8, 1, [...bottom, ...jump]))).toEqual(['03333', '00000', '11232']);
  });

  it('unpacks alternating runs and packed literals of RLE4', () => {
    const lines = [5, 0x12, 0, 0, 0, 5, 0x32, 0x10, 0x30, 0, 0, 1];
    expect(indices(bitmap(5, 2, 4, 2, lines))).toEqual(['32103', '12121']);
  });

  it('cuts a run at the end of its line', () => {
    expect(indices(bitmap(3, 2, 8, 1, [9, 1, 0, 0, 3, 2, 0, 1]))).toEqual(['222', '111']);
  });

  it.each([
    ['runs that end early', bitmap(4, 2, 8, 1, [4, 1, 0, 1])],
    ['runs that are cut off', bitmap(4, 2, 8, 1, [4, 1, 0])],
    ['a literal that is cut off', bitmap(4, 2, 8, 1, [0, 4, 1, 1])],
    ['rows that are cut off', bitmap(4, 2, 8, 0, [1, 2, 3, 0, 1, 2, 3])],
  ])('throws a RangeError for %s', (_, file) => {
    expect(() => decodeBmp(file, 'a.bmp')).toThrow(RangeError);
  });
});
