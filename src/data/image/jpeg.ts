/**
 * The head of a JPEG file: segments up to the first scan (ITU-T T.81, annex B; EXIF 2.32; XMP specification, part 3).
 */
import type { FormatHeader } from './format-header.js';
import { orientation } from './orientation.js';
import { ImageError } from './rgb-image.js';

const EXIF = 'Exif\0\0';
const XMP = 'http://ns.adobe.com/xap/1.0/\0';

/** Markers without a length: TEM, RST0 to RST7, SOI, EOI. */
const STANDALONE = new Set([0x01, 0xd0, 0xd1, 0xd2, 0xd3, 0xd4, 0xd5, 0xd6, 0xd7, 0xd8, 0xd9]);
const START_OF_SCAN = 0xda;

export function jpegHeader(file: Buffer, name: string): FormatHeader {
  const exif: Buffer[] = [];
  let xmp: Buffer | undefined;
  let frame: Buffer | undefined;

  for (let at = 2; ;) {
    const marker = file.readUInt8(at + 1);
    // Bytes between segments are skipped, as libjpeg does; 0xff may be repeated and 0xff 0x00 is no marker.
    if (file.readUInt8(at) !== 0xff || marker === 0xff) {
      at += 1;
      continue;
    }
    at += 2;
    if (marker === START_OF_SCAN) break;
    if (marker === 0 || STANDALONE.has(marker)) continue;
    const end = at + file.readUInt16BE(at);
    const body = file.subarray(at + 2, end);
    if (isFrame(marker)) frame = body;
    if (marker === 0xe1) {
      if (startsWith(body, EXIF)) exif.push(exif.length === 0 ? body : body.subarray(EXIF.length));
      else if (startsWith(body, XMP)) xmp = body.subarray(XMP.length);
    }
    at = Math.max(end, at + 2);
  }

  if (frame === undefined) {
    throw new ImageError(name, 'E_IMAGE_BROKEN', 'the JPEG has a scan and no frame before it');
  }
  const precision = frame.readUInt8(0);
  const components = frame.readUInt8(5);
  if (precision !== 8 || ![1, 3, 4].includes(components)) {
    const reason = `a JPEG of ${components} components of ${precision} bits is not read`;
    throw new ImageError(name, 'E_IMAGE_TYPE', reason);
  }
  return {
    width: frame.readUInt16BE(3),
    height: frame.readUInt16BE(1),
    orientation: orientation(exif.length === 0 ? undefined : Buffer.concat(exif), xmp),
    samples: components === 4 ? 'cmyk' : 'rgb',
  };
}

/** SOF0 to SOF15 but for DHT, JPG and DAC, which lie between them. */
function isFrame(marker: number): boolean {
  return marker >= 0xc0 && marker <= 0xcf && marker !== 0xc4 && marker !== 0xc8 && marker !== 0xcc;
}

function startsWith(body: Buffer, text: string): boolean {
  return body.toString('latin1', 0, text.length) === text;
}
