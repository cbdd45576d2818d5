/**
 * The head of a WebP file: RIFF chunks (WebP container specification; RFC 6386 section 9.1; WebP lossless, section 3).
 */
import type { FormatHeader } from './format-header.js';
import { orientation } from './orientation.js';
import { ImageError } from './rgb-image.js';

export function webpHeader(file: Buffer, name: string): FormatHeader {
  const end = 8 + file.readUInt32LE(4);
  if (end > file.length) throw new RangeError(`the RIFF should have ${end} bytes`);
  const kind = file.toString('latin1', 12, 16);
  switch (kind) {
    case 'VP8 ':
      return plain(file.readUInt16LE(26) & 0x3fff, file.readUInt16LE(28) & 0x3fff);
    case 'VP8L': {
      const bits = file.readUInt32LE(21);
      return plain((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1);
    }
    case 'VP8X':
      return {
        width: file.readUIntLE(24, 3) + 1,
        height: file.readUIntLE(27, 3) + 1,
        orientation: orientation(chunk(file, 'EXIF', end), chunk(file, 'XMP ', end)),
        samples: 'rgb',
      };
    default: {
      const reason = `a WebP that begins with a ${JSON.stringify(kind)} chunk is not read`;
      throw new ImageError(name, 'E_IMAGE_BROKEN', reason);
    }
  }
}

/** A file in the simple format, which holds no metadata. */
function plain(width: number, height: number): FormatHeader {
  return { width, height, orientation: 1, samples: 'rgb' };
}

/** The first chunk of a name. */
function chunk(file: Buffer, name: string, end: number): Buffer | undefined {
  for (let at = 12; at + 8 <= end;) {
    const length = file.readUInt32LE(at + 4);
    if (file.toString('latin1', at, at + 4) === name) return file.subarray(at + 8, at + 8 + length);
    at += 8 + length + (length & 1);
  }
  return undefined;
}
