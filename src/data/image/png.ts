/**
 * The head of a PNG file and the metadata that may also stand behind the pixels (PNG specification, third edition).
 */
import { crc32, inflateSync } from 'node:zlib';

import type { FormatHeader } from './format-header.js';
import { orientation } from './orientation.js';
import { ImageError } from './rgb-image.js';

/** Text larger than this, unpacked, is not looked at for an orientation. */
const TEXT_LIMIT = 1 << 20;
const XMP = 'XML:com.adobe.xmp';
const RAW_EXIF = 'Raw profile type exif';

export function pngHeader(file: Buffer, name: string): FormatHeader {
  const header = file.subarray(16, 29);
  if (file.readUInt32BE(8) !== 13 || file.toString('latin1', 12, 16) !== 'IHDR') {
    throw new ImageError(name, 'E_IMAGE_BROKEN', 'the PNG does not begin with an IHDR chunk');
  }
  let exif: Buffer | undefined;
  let xmp: TextChunk | undefined;
  let rawExif: TextChunk | undefined;
  let data = false;

  for (let at = 8; at + 8 <= file.length;) {
    const length = file.readUInt32BE(at);
    const type = file.toString('latin1', at + 4, at + 8);
    const end = at + 8 + length;
    if (end > file.length) throw new RangeError(`chunk ${type} is cut off`);
    const body = file.subarray(at + 8, end);
    data ||= type === 'IDAT';
    // As Pillow: in front of the pixels a checksum must be right, behind them it is not looked at.
    if (!data && crc32(file.subarray(at + 4, end)) !== file.readUInt32BE(end)) {
      const reason = `the checksum of the PNG's ${JSON.stringify(type)} chunk is wrong`;
      throw new ImageError(name, 'E_IMAGE_BROKEN', reason);
    }
    if (type === 'eXIf') exif = body;
    if (type === 'tEXt' || type === 'zTXt' || type === 'iTXt') {
      const keyword = body.toString('latin1', 0, Math.max(body.indexOf(0), 0));
      if (keyword === XMP) xmp = { type, body };
      if (keyword === RAW_EXIF) rawExif = { type, body };
    }
    if (type === 'IEND') break;
    at = end + 4;
  }

  if (!data) throw new RangeError('there is no IDAT chunk');
  const bits = header.readUInt8(8);
  const colour = header.readUInt8(9);
  return {
    width: header.readUInt32BE(0),
    height: header.readUInt32BE(4),
    orientation: orientation(exif ?? hexProfile(text(rawExif)), text(xmp)),
    samples: bits === 16 && colour === 0 ? 'grey16' : 'rgb',
  };
}

interface TextChunk {
  type: 'tEXt' | 'zTXt' | 'iTXt';
  body: Buffer;
}

/** The text of a chunk, unpacked; undefined where it cannot be. */
function text(chunk: TextChunk | undefined): Buffer | undefined {
  if (chunk === undefined) return undefined;
  const { type, body } = chunk;
  let at = body.indexOf(0) + 1;
  if (type === 'tEXt') return body.subarray(at);
  let packed = true;
  if (type === 'zTXt') {
    at += 1; // compression method
  } else {
    packed = body[at] !== 0;
    at += 2; // compression flag and method
    for (let strings = 0; strings < 2; strings++) {
      const end = body.indexOf(0, at); // language, translated keyword
      if (end < 0) return undefined;
      at = end + 1;
    }
  }
  if (!packed) return body.subarray(at);
  try {
    return inflateSync(body.subarray(at), { maxOutputLength: TEXT_LIMIT });
  } catch {
    // Unreadable text is no reason to lose a picture.
    return undefined;
  }
}

/** ImageMagick's way to store EXIF: a line break, a name, a length, then hexadecimal digits. */
function hexProfile(profile: Buffer | undefined): Buffer | undefined {
  const digits = profile?.toString('latin1').split('\n').slice(3).join('');
  return digits === undefined ? undefined : Buffer.from(digits, 'hex');
}
