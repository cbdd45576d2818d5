/**
 * Image files to 8-bit RGB, byte for byte as Pillow's `Image.open(file).convert("RGB")`.
 *
 * libvips (through sharp) unpacks JPEG, PNG, WebP and TIFF; GIF and BMP have decoders beside this file. Colour profiles
 * and gamma are ignored, alpha is dropped and not blended, CMYK is converted by Pillow's formula without a profile.
 */
import type { Sharp } from 'sharp';
import sharp from 'sharp';

import { decodeBmp } from './bmp.js';
import { decodeGif } from './gif.js';
import type { FormatHeader } from './format-header.js';
import type { ImageHeader } from './header.js';
import { appliedOrientation, asBuffer, readHeader, withinFile } from './header.js';
import { refuseStrayMarkers } from './jpeg.js';
import type { ImageLimits, Reading, RgbImage } from './rgb-image.js';
import { DEFAULT_LIMITS, ImageError } from './rgb-image.js';
import { isWhiteZero, tiffForDecoder } from './tiff.js';

export interface DecodeOptions {
  /** What messages call the file. */
  name: string;
  /** @default 'turned' */
  reading?: Reading;
  limits?: ImageLimits;
}

/**
 * Decodes an image file; the first frame or page where there are several.
 *
 * @throws ImageError with the file's name, whatever the bytes are
 */
export async function decodeImage(
  bytes: Uint8Array,
  { name, reading = 'turned', limits = {} }: DecodeOptions,
): Promise<RgbImage> {
  const file = asBuffer(bytes);
  const header = readHeader(file, name, limits);
  const source: Source = { file, name, header, reading, limits: { ...DEFAULT_LIMITS, ...limits } };
  switch (header.format) {
    case 'bmp':
      return withinFile(name, 'bmp', () => decodeBmp(file, name));
    case 'gif':
      return withinFile(name, 'gif', () => decodeGif(file, name));
    case 'tiff':
      return decodeSamples({ ...source, file: tiffForDecoder(file) });
    case 'jpeg':
      withinFile(name, 'jpeg', () => {
        refuseStrayMarkers(file, name);
      });
      return decodeSamples(source);
    case 'png':
    case 'webp':
      return decodeSamples(source);
  }
}

interface Source {
  file: Buffer;
  name: string;
  header: ImageHeader;
  reading: Reading;
  limits: Required<ImageLimits>;
}

/** For each kind of samples: what libvips is asked for, and how that becomes RGB. */
interface Kind {
  channels: number;
  pipeline: (image: Sharp) => Sharp;
  toRgb: (samples: Uint8Array, source: Source) => Uint8Array;
}

const KINDS: Record<FormatHeader['samples'], Kind> = {
  rgb: {
    channels: 3,
    pipeline: (image) => image.removeAlpha().toColourspace('srgb').raw(),
    toRgb: (rgb) => rgb,
  },
  grey16: {
    channels: 1,
    pipeline: (image) => image.removeAlpha().toColourspace('grey16').raw({ depth: 'ushort' }),
    toRgb: grey16ToRgb,
  },
  cmyk: {
    channels: 4,
    pipeline: (image) => image.pipelineColourspace('cmyk').toColourspace('cmyk').raw(),
    toRgb: cmykToRgb,
  },
  premultiplied: {
    channels: 4,
    pipeline: (image) => image.toColourspace('srgb').raw(),
    toRgb: divideByAlpha,
  },
};

async function decodeSamples(source: Source): Promise<RgbImage> {
  const { header, reading } = source;
  const orientation = appliedOrientation(header, reading);
  const [width, height] =
    orientation > 4 ? [header.height, header.width] : [header.width, header.height];
  const { channels, pipeline, toRgb } = KINDS[header.samples];
  const samples = await unpack(source, { width, height, channels }, (image) =>
    pipeline(turn(image, orientation)),
  );
  return { width, height, data: toRgb(samples, source) };
}

/** Runs a pipeline; whatever libvips refuses becomes an ImageError. */
async function unpack(
  { file, name, header, limits }: Source,
  expected: { width: number; height: number; channels: number },
  pipeline: (image: Sharp) => Sharp,
): Promise<Uint8Array> {
  const format = header.format.toUpperCase();
  let decoded;
  try {
    const image = sharp(file, {
      ignoreIcc: true,
      // Pillow accepts what libtiff only warns of, and it stops where data are missing.
      failOn: 'error',
      limitInputPixels: limits.pixels,
    });
    decoded = await pipeline(image)
      .timeout({ seconds: Math.ceil(limits.seconds) })
      .toBuffer({ resolveWithObject: true });
  } catch (cause) {
    const message = cause instanceof Error ? cause.message.split('\n')[0]! : String(cause);
    if (/^timeout/.test(message)) {
      const reason = `the ${format} took longer than ${limits.seconds} s to decode`;
      throw new ImageError(name, 'E_IMAGE_TOO_LARGE', reason, { cause });
    }
    const cut = /premature|unexpected end|truncat|expected \d+/i.test(message);
    const code = cut ? 'E_IMAGE_TRUNCATED' : 'E_IMAGE_BROKEN';
    throw new ImageError(name, code, `the ${format} cannot be decoded (${message})`, { cause });
  }
  const { width, height, channels } = decoded.info;
  if (
    width !== expected.width ||
    height !== expected.height ||
    (channels as number) !== expected.channels
  ) {
    const reason =
      `the ${format} should hold ${expected.width} x ${expected.height} x ${expected.channels} samples ` +
      `and holds ${width} x ${height} x ${channels}`;
    throw new ImageError(name, 'E_IMAGE_BROKEN', reason);
  }
  return decoded.data;
}

/** Undoes an EXIF orientation; sharp mirrors first and turns then. */
function turn(image: Sharp, orientation: number): Sharp {
  switch (orientation) {
    case 2:
      return image.flop();
    case 3:
      return image.rotate(180);
    case 4:
      return image.flip();
    case 5:
      return image.flop().rotate(270);
    case 6:
      return image.rotate(90);
    case 7:
      return image.flop().rotate(90);
    case 8:
      return image.rotate(270);
    default:
      return image;
  }
}

/** Pillow's conversion: with n = 255 - K, a colour is n - round(ink x n / 255), not below 0. */
function cmykToRgb(inks: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((inks.length / 4) * 3);
  for (let from = 0, to = 0; from < inks.length; from += 4, to += 3) {
    const n = 255 - inks[from + 3]!;
    for (let c = 0; c < 3; c++) {
      const t = inks[from + c]! * n + 128;
      rgb[to + c] = Math.max(n - ((t + (t >> 8)) >> 8), 0);
    }
  }
  return rgb;
}

/** Pillow's conversion: trunc(255 x colour / alpha), at most 255; black where alpha is 0. */
function divideByAlpha(rgba: Uint8Array): Uint8Array {
  const rgb = new Uint8Array((rgba.length / 4) * 3);
  for (let from = 0, to = 0; from < rgba.length; from += 4, to += 3) {
    const alpha = rgba[from + 3]!;
    for (let c = 0; c < 3; c++) {
      rgb[to + c] = alpha === 0 ? 0 : Math.min(Math.trunc((255 * rgba[from + c]!) / alpha), 255);
    }
  }
  return rgb;
}

/** The high byte, or as Pillow the value cut at 255; Pillow also takes grey that counts from white as it is. */
function grey16ToRgb(bytes: Uint8Array, { file, header, reading }: Source): Uint8Array {
  const inverted = header.format === 'tiff' && isWhiteZero(file);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const rgb = new Uint8Array((bytes.length / 2) * 3);
  for (let from = 0, to = 0; from < bytes.length; from += 2, to += 3) {
    const decoded = view.getUint16(from, true);
    const value = inverted ? 0xffff - decoded : decoded;
    rgb.fill(reading === 'turned' ? value >> 8 : Math.min(value, 255), to, to + 3);
  }
  return rgb;
}
