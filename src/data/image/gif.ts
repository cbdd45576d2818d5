/**
 * The first frame of a GIF file (GIF89a specification), as Pillow shows it: an opaque picture, where a transparent pixel
 * has its colour from the palette, on a screen filled with the transparent colour or colour 0.
 *
 * libvips makes such pixels black and takes a file whose data end early, so the frame is unpacked here.
 */
import type { FormatHeader } from './format-header.js';
import { unpackLzw } from './lzw.js';
import { ImageError, type RgbImage } from './rgb-image.js';

/** Where the first frame lies on the screen and how it is stored. */
interface Frame {
  /** The screen, enlarged where the frame reaches over its edge. */
  width: number;
  height: number;
  left: number;
  top: number;
  frameWidth: number;
  frameHeight: number;
  interlaced: boolean;
  /** `[256][3]`; without a palette in the file, values are grey. */
  palette: Uint8Array;
  /** Index of the colour that fills the screen outside of the frame. */
  fill: number;
  /** Where the code size stands, and the data blocks behind it. */
  at: number;
}

const EXTENSION = 0x21;
const GRAPHIC_CONTROL = 0xf9;
const IMAGE = 0x2c;
const TRAILER = 0x3b;

/** First row and distance between the rows of the four passes of an interlaced frame. */
const PASSES = [
  [0, 8],
  [4, 8],
  [2, 4],
  [1, 2],
] as const;

export function gifHeader(file: Buffer, name: string): FormatHeader {
  const { width, height } = readFrame(file, name);
  return { width, height, orientation: 1, samples: 'rgb' };
}

/** Decodes a GIF whose head has been checked; data that end early throw a RangeError. */
export function decodeGif(file: Buffer, name: string): RgbImage {
  const frame = readFrame(file, name);
  const { width, height, left, top, frameWidth, frameHeight, palette } = frame;
  const indices = unpackFrame(file, frame, name);
  const fill = palette.subarray(3 * frame.fill, 3 * frame.fill + 3);
  const data = Buffer.alloc(3 * width * height, fill);
  let from = 0;
  for (const y of rowOrder(frameHeight, frame.interlaced)) {
    let to = 3 * ((top + y) * width + left);
    for (let x = 0; x < frameWidth; x++, to += 3) {
      const colour = 3 * indices[from++]!;
      data[to] = palette[colour]!;
      data[to + 1] = palette[colour + 1]!;
      data[to + 2] = palette[colour + 2]!;
    }
  }
  return { width, height, data };
}

function readFrame(file: Buffer, name: string): Frame {
  const screen = { width: file.readUInt16LE(6), height: file.readUInt16LE(8) };
  let palette = Uint8Array.from({ length: 768 }, (_, i) => Math.floor(i / 3));
  let transparent: number | undefined;
  let at = 13;
  const readPalette = (flags: number) => {
    if ((flags & 0x80) === 0) return;
    const length = 6 << (flags & 7);
    if (at + length > file.length) throw new RangeError('the palette is cut off');
    palette = new Uint8Array(768);
    palette.set(file.subarray(at, at + length));
    at += length;
  };

  readPalette(file.readUInt8(10));
  for (let kind = file.readUInt8(at); kind !== IMAGE; kind = file.readUInt8(at)) {
    if (kind === TRAILER) throw new ImageError(name, 'E_IMAGE_BROKEN', 'the GIF holds no image');
    if (kind !== EXTENSION) {
      at += 1;
      continue;
    }
    const control = file.readUInt8(at + 1) === GRAPHIC_CONTROL && file.readUInt8(at + 2) >= 4;
    if (control && (file.readUInt8(at + 3) & 1) !== 0) transparent = file.readUInt8(at + 6);
    at += 2;
    while (file.readUInt8(at) !== 0) at += 1 + file.readUInt8(at);
    at += 1;
  }

  const [left, top] = [file.readUInt16LE(at + 1), file.readUInt16LE(at + 3)];
  const [frameWidth, frameHeight] = [file.readUInt16LE(at + 5), file.readUInt16LE(at + 7)];
  if (frameWidth < 1 || frameHeight < 1) {
    const reason = `the GIF's first frame is ${frameWidth} x ${frameHeight} pixels`;
    throw new ImageError(name, 'E_IMAGE_BROKEN', reason);
  }
  const flags = file.readUInt8(at + 9);
  at += 10;
  readPalette(flags);
  return {
    width: Math.max(screen.width, left + frameWidth),
    height: Math.max(screen.height, top + frameHeight),
    left,
    top,
    frameWidth,
    frameHeight,
    interlaced: (flags & 0x40) !== 0,
    palette,
    fill: transparent ?? 0,
    at,
  };
}

/** The palette indices of a frame, row by row as stored. */
function unpackFrame(file: Buffer, { frameWidth, frameHeight, at }: Frame, name: string) {
  const bits = file.readUInt8(at);
  if (bits < 1 || bits > 8) {
    throw new ImageError(name, 'E_IMAGE_BROKEN', `the GIF has a code size of ${bits} bits`);
  }
  const blocks: Buffer[] = [];
  // As Pillow: a block that the file cuts off does not count.
  for (let start = at + 1, size = file[start] ?? 0; size > 0; size = file[start] ?? 0) {
    if (start + 1 + size > file.length) break;
    blocks.push(file.subarray(start + 1, start + 1 + size));
    start += 1 + size;
  }
  try {
    return unpackLzw(Buffer.concat(blocks), bits, frameWidth * frameHeight);
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new ImageError(name, 'E_IMAGE_BROKEN', `in the GIF's data ${cause.message}`, { cause });
  }
}

function* rowOrder(height: number, interlaced: boolean): Generator<number> {
  for (const [first, step] of interlaced ? PASSES : ([[0, 1]] as const)) {
    for (let y = first; y < height; y += step) yield y;
  }
}
