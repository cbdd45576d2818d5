import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { orientation } from './orientation.js';

/** EXIF with one tag, little-endian. */
function exif(tag: number, type: number, count: number, value: number): Buffer {
  const block = Buffer.alloc(26);
  block.write('II*\0', 'latin1');
  block.writeUInt32LE(8, 4);
  block.writeUInt16LE(1, 8);
  block.writeUInt16LE(tag, 10);
  block.writeUInt16LE(type, 12);
  block.writeUInt32LE(count, 14);
  block.writeUInt32LE(value, 18);
  return block;
}

const xmp = Buffer.from('<rdf:Description tiff:Orientation="6"/>');

describe('orientation', () => {
  it('reads the tag as SHORT or LONG, with and without the Exif prefix', () => {
    expect(orientation(exif(0x112, 3, 1, 8), undefined)).toBe(8);
    expect(orientation(exif(0x112, 4, 1, 5), undefined)).toBe(5);
    const prefixed = Buffer.concat([Buffer.from('Exif\0\0'), exif(0x112, 3, 1, 3)]);
    expect(orientation(prefixed, undefined)).toBe(3);
  });

  it('turns nothing for values that do not exist', () => {
    expect(orientation(exif(0x112, 3, 1, 9), undefined)).toBe(1);
    expect(orientation(exif(0x112, 3, 1, 0), undefined)).toBe(1);
    expect(orientation(undefined, undefined)).toBe(1);
  });

  it('takes XMP only where EXIF does not have the tag', () => {
    expect(orientation(undefined, xmp)).toBe(6);
    expect(orientation(exif(0x10f, 3, 1, 2), xmp)).toBe(6);
    expect(orientation(exif(0x112, 3, 1, 1), xmp)).toBe(1);
    expect(orientation(exif(0x112, 3, 1, 0), xmp)).toBe(1);
    expect(orientation(undefined, Buffer.from('<tiff:Orientation>8</tiff:Orientation>'))).toBe(8);
  });

  it('reads a rational, and the first of two tags that has a value', () => {
    const rational = Buffer.concat([exif(0x112, 5, 1, 26), Buffer.from([6, 0, 0, 0, 1, 0, 0, 0])]);
    expect(orientation(rational, undefined)).toBe(6);
    const two = (first: Buffer): Buffer => {
      const block = Buffer.concat([first.subarray(0, 22), exif(0x112, 3, 1, 3).subarray(10)]);
      block.writeUInt16LE(2, 8);
      return block;
    };
    expect(orientation(two(exif(0x112, 3, 1, 6)), undefined)).toBe(6);
    expect(orientation(two(exif(0x112, 3, 0, 6)), undefined)).toBe(3);
    expect(orientation(two(exif(0x112, 99, 1, 6)), undefined)).toBe(3);
    expect(orientation(two(exif(0x112, 4, 2, 9999)), undefined)).toBe(3);
    expect(orientation(exif(0x112, 3, 0, 8), xmp)).toBe(6);
  });

  it('reads what is there of a directory that announces more', () => {
    const block = exif(0x112, 3, 1, 4);
    block.writeUInt16LE(9, 8);
    expect(orientation(block, undefined)).toBe(4);
  });

  it('loses no picture over damaged EXIF', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 80 }), fc.nat(25), fc.nat(255), (tail, at, value) => {
        const block = Buffer.concat([exif(0x112, 3, 1, 6), tail]);
        block[at] = value;
        expect(orientation(block, undefined)).toBeGreaterThanOrEqual(1);
        expect(orientation(Buffer.from(tail), undefined)).toBe(1);
      }),
    );
  });
});
