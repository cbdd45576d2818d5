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

/** Markers that libjpeg passes over behind a scan: a segment with a length (tables, comments, APPn), or none. */
const SKIPPED = new Set([0xc4, 0xcc, 0xdb, 0xdc, 0xdd, 0xfe, ...range(0xe0, 0xef)]);
const END = 0xd9;

/**
 * Refuses a JPEG of one scan in whose data stands a marker that cannot be there: the data are damaged, and libvips would
 * make the rest of the picture grey. Pillow reads on to the end of the file and refuses it too.
 *
 * @throws ImageError
 */
export function refuseStrayMarkers(file: Buffer, name: string): void {
  let at = scanData(file);
  while (at !== undefined && (at = file.indexOf(0xff, at)) >= 0 && at + 1 < file.length) {
    const marker = file[at + 1]!;
    at += marker === 0xff ? 1 : 2;
    if (marker === 0 || marker === 0xff || marker === 0x01 || isRestart(marker)) continue;
    if (marker === END) return;
    if (!SKIPPED.has(marker)) {
      const shown = `0xff${marker.toString(16).padStart(2, '0')}`;
      throw new ImageError(name, 'E_IMAGE_BROKEN', `the JPEG's data hold a stray marker ${shown}`);
    }
    if (at + 2 > file.length) return;
    at += Math.max(file.readUInt16BE(at), 2);
  }
}

/** Where the data of the only scan begin; undefined in a file of several scans or with restart markers. */
function scanData(file: Buffer): number | undefined {
  let components = 0;
  for (let at = 2; at + 4 <= file.length;) {
    const marker = file[at + 1]!;
    if (file[at] !== 0xff || marker === 0xff) {
      at += 1;
      continue;
    }
    at += 2;
    if (marker === 0 || STANDALONE.has(marker)) continue;
    const end = at + Math.max(file.readUInt16BE(at), 2);
    // Progressive files are read to their end by libjpeg itself, and damage is made up for at restart markers.
    if (marker === 0xdd && file.readUInt16BE(at + 2) > 0) return undefined;
    if (isFrame(marker)) components = marker === 0xc2 ? 0 : file[at + 7]!;
    if (marker === START_OF_SCAN) return file[at + 2] === components ? end : undefined;
    at = end;
  }
  return undefined;
}

const isRestart = (marker: number): boolean => marker >= 0xd0 && marker <= 0xd7;

function range(from: number, to: number): number[] {
  return Array.from({ length: to - from + 1 }, (_, i) => from + i);
}
