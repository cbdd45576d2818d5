/**
 * Windows and OS/2 bitmaps: 1, 4 and 8 bits with a palette, plain or run-length encoded, 16, 24 and 32 bits with the bit
 * masks that Pillow reads. Alpha is dropped.
 *
 * Layout after Microsoft's "Bitmap Storage" and the BITMAPCOREHEADER to BITMAPV5HEADER structures.
 */
import type { FormatHeader } from './format-header.js';
import { ImageError, type RgbImage } from './rgb-image.js';

interface Bitmap {
  width: number;
  height: number;
  topDown: boolean;
  bits: number;
  compression: number;
  /** `[256][3]`, RGB; empty above 8 bits. */
  palette: Buffer;
  /** For 16 and 32 bits: red, green and blue. */
  channels: Channel[];
  /** Where the pixels begin. */
  at: number;
}

/** Where a channel lies within a pixel's integer, and the integer that stands for 255. */
interface Channel {
  shift: number;
  maximum: number;
}

const RAW = 0;
const RLE8 = 1;
const RLE4 = 2;
const BIT_FIELDS = 3;

const HEADER_SIZES = [12, 40, 52, 56, 64, 108, 124];
const CORE_HEADER = 12;

const channels = (maximum: number, ...shifts: number[]): Channel[] =>
  shifts.map((shift) => ({ shift, maximum }));
const RGB555 = channels(31, 10, 5, 0);
const RGB565 = [...channels(31, 11), ...channels(63, 5), ...channels(31, 0)];
const BGR8 = channels(255, 16, 8, 0);

/** Masks of red, green, blue (and alpha) in hexadecimal, as the file gives them, to the channels they mean. */
const LAYOUTS: Record<string, Channel[]> = {
  '16:7c00,3e0,1f': RGB555,
  '16:f800,7e0,1f': RGB565,
  '24:ff0000,ff00,ff': BGR8,
  '32:0,0,0,0': BGR8,
  '32:ff0000,ff00,ff,0': BGR8,
  '32:ff0000,ff00,ff,ff000000': BGR8,
  '32:ff,ff00,ff0000,ff000000': channels(255, 0, 8, 16),
  '32:ff000000,ff0000,ff00,0': channels(255, 24, 16, 8),
  '32:ff000000,ff0000,ff00,ff': channels(255, 24, 16, 8),
  '32:ff000000,ff00,ff,0': channels(255, 24, 8, 0),
  '32:ff000000,ff00,ff,ff0000': channels(255, 24, 8, 0),
};

export function bmpHeader(file: Buffer, name: string): FormatHeader {
  const { width, height } = readBitmap(file, name);
  return { width, height, orientation: 1, samples: 'rgb' };
}

/** Decodes a bitmap whose head has been checked; a read behind the end of the file throws a RangeError. */
export function decodeBmp(file: Buffer, name: string): RgbImage {
  const bitmap = readBitmap(file, name);
  const { width, height, topDown, bits, compression, palette } = bitmap;
  const indices = compression === RLE8 || compression === RLE4 ? unpackRuns(file, bitmap) : file;
  const [start, stride] =
    indices === file ? [bitmap.at, ((width * bits + 31) >>> 5) * 4] : [0, width];
  const depth = indices === file ? bits : 8;
  const needed = start + (height - 1) * stride + Math.ceil((width * depth) / 8);
  if (needed > indices.length) throw new RangeError(`${needed} bytes are needed`);

  const data = new Uint8Array(3 * width * height);
  for (let y = 0, out = 0; y < height; y++) {
    const row = start + (topDown ? y : height - 1 - y) * stride;
    for (let x = 0; x < width; x++, out += 3) {
      if (depth <= 8) {
        const bit = x * depth;
        const byte = indices[row + (bit >> 3)]!;
        const index = (byte >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
        data[out] = palette[3 * index]!;
        data[out + 1] = palette[3 * index + 1]!;
        data[out + 2] = palette[3 * index + 2]!;
      } else {
        const pixel = file.readUIntLE(row + (x * depth) / 8, depth / 8);
        for (let c = 0; c < 3; c++) {
          const { shift, maximum } = bitmap.channels[c]!;
          data[out + c] = Math.trunc((((pixel >>> shift) & maximum) * 255) / maximum);
        }
      }
    }
  }
  return { width, height, data };
}

function readBitmap(file: Buffer, name: string): Bitmap {
  const refuse = (what: string) =>
    new ImageError(name, 'E_IMAGE_TYPE', `a BMP ${what} is not read`);
  const headerSize = file.readUInt32LE(14);
  if (!HEADER_SIZES.includes(headerSize)) throw refuse(`with a header of ${headerSize} bytes`);
  const core = headerSize === CORE_HEADER;
  const width = core ? file.readUInt16LE(18) : file.readUInt32LE(18);
  const signedHeight = core ? file.readUInt16LE(20) : file.readInt32LE(22);
  const bits = file.readUInt16LE(core ? 24 : 28);
  const compression = core ? RAW : file.readUInt32LE(30);
  const colours = (core ? 0 : file.readUInt32LE(46)) || 2 ** bits;
  if (![1, 4, 8, 16, 24, 32].includes(bits)) throw refuse(`of ${bits} bits per pixel`);
  const packed = (compression === RLE8 && bits === 8) || (compression === RLE4 && bits === 4);
  if (compression !== RAW && compression !== BIT_FIELDS && !packed) {
    throw refuse(`of ${bits} bits with compression ${compression}`);
  }

  let at = 14 + headerSize;
  let layout = bits === 16 ? RGB555 : BGR8;
  if (compression === BIT_FIELDS) {
    const masks = [54, 58, 62].map((offset) => file.readUInt32LE(offset));
    if (headerSize === 40) at += 12;
    if (bits === 32) masks.push(headerSize >= 56 ? file.readUInt32LE(66) : 0);
    const key = `${bits}:${masks.map((mask) => mask.toString(16)).join(',')}`;
    const known = LAYOUTS[key];
    if (known === undefined) throw refuse(`with the bit masks ${key}`);
    layout = known;
  }
  const step = core ? 3 : 4;
  const palette = Buffer.alloc(bits <= 8 ? 768 : 0);
  if (bits <= 8) {
    for (let i = 0; i < Math.min(colours, 2 ** bits); i++) {
      for (let c = 0; c < 3; c++) palette[3 * i + c] = file.readUInt8(at + step * i + 2 - c);
    }
  }
  // Some files give the end of the header as the place of the pixels although a palette stands there.
  const stated = file.readUInt32LE(10);
  const afterPalette = at + (bits <= 8 ? step * colours : 0);
  return {
    width,
    height: Math.abs(signedHeight),
    topDown: signedHeight < 0,
    bits,
    compression,
    palette,
    channels: layout,
    at: stated === 0 || (stated === 14 + headerSize && bits <= 8) ? afterPalette : stated,
  };
}

/** Run-length decoding to one byte per pixel, in the order of the file; a file that stops early is cut off. */
function unpackRuns(file: Buffer, { width, height, compression, at }: Bitmap): Buffer {
  const total = width * height;
  const out = Buffer.alloc(total);
  const fourBits = compression === RLE4;
  let x = 0;
  let written = 0;
  /** Writes pixels whose values stand in `bytes` from `from`, two to a byte for RLE4, `period` values repeating. */
  const put = (count: number, value: (i: number) => number) => {
    for (let i = 0; i < count && written < total; i++) out[written++] = value(i);
  };
  while (written < total) {
    const count = file.readUInt8(at);
    const byte = file.readUInt8(at + 1);
    at += 2;
    if (count > 0) {
      const fitting = Math.max(0, Math.min(count, width - x));
      put(fitting, (i) => (fourBits ? (i % 2 === 0 ? byte >> 4 : byte & 15) : byte));
      x += fitting;
    } else if (byte === 0) {
      put((width - (written % width)) % width, () => 0);
      x = 0;
    } else if (byte === 1) {
      throw new RangeError(`the runs end after ${written} of ${total} pixels`);
    } else if (byte === 2) {
      put(file.readUInt8(at) + file.readUInt8(at + 1) * width, () => 0);
      at += 2;
      x = written % width;
    } else {
      const from = at;
      put(byte, (i) => {
        const packed = file.readUInt8(from + (fourBits ? i >> 1 : i));
        return fourBits ? (i % 2 === 0 ? packed >> 4 : packed & 15) : packed;
      });
      at += fourBits ? (byte + 1) >> 1 : byte;
      at += at % 2; // a literal run is filled up to a whole word of the file
      x += byte;
    }
  }
  return out;
}
