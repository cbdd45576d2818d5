/**
 * The directory of a zip archive (PKWARE APPNOTE 6.3, with Zip64), read strictly: every declared size, place and name is
 * checked against the file before anything is allocated. Only what checkpoint files use is supported: stored and deflated
 * entries, no encryption, one volume.
 */
import { DataError } from '../base/errors.js';
import type { ByteSource } from './source.js';
import { brief } from './strict-json.js';

/** One file in the archive. */
export interface ZipEntry {
  readonly name: string;
  readonly deflated: boolean;
  readonly crc: number;
  /** Bytes in the archive. */
  readonly packed: number;
  /** Bytes of the content. */
  readonly size: number;
  /** Where the local header begins, and the next thing after the entry. */
  readonly start: number;
  readonly end: number;
  /** Data descriptor: the local header may leave its sizes at 0. */
  readonly trailing: boolean;
}

const END = 0x06054b50;
const END64 = 0x06064b50;
const LOCATOR64 = 0x07064b50;
const CENTRAL = 0x02014b50;
/** Bits 0, 6 and 13 of the flags: encrypted, strongly encrypted, directory masked. */
export const ENCRYPTED = 0x2041;
const END_BYTES = 22;
const MAX_COMMENT = 0xffff;
/** A directory of a checkpoint takes about 100 bytes per tensor. */
const MAX_DIRECTORY = 64 * 2 ** 20;
/** Deflate cannot pack better than 1032 to 1. */
const MAX_RATIO = 1032;
const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * The entries by name, in the order of the file.
 *
 * @throws DataError E_ZIP, E_ZIP_UNSUPPORTED
 */
export async function readZipDirectory(source: ByteSource): Promise<Map<string, ZipEntry>> {
  const { offset, length, count } = await findDirectory(source);
  if (length > MAX_DIRECTORY) throw brokenZip(source, `its directory declares ${length} bytes`);
  const entries = parseDirectory(source, await source.read(offset, length), count);
  return separate(source, entries, offset);
}

/** Where the central directory lies, from the end record, or from the Zip64 end record in front of it. */
async function findDirectory(source: ByteSource): Promise<Directory> {
  const tailStart = Math.max(0, source.size - END_BYTES - MAX_COMMENT);
  const tail = await source.read(tailStart, source.size - tailStart);
  const view = viewOf(tail);
  let at = tail.length - END_BYTES;
  const isEnd = (): boolean =>
    view.getUint32(at, true) === END &&
    at + END_BYTES + view.getUint16(at + 20, true) === tail.length;
  while (at >= 0 && !isEnd()) at--;
  if (at < 0) throw brokenZip(source, 'it has no end record, so it is cut short');
  const end = tailStart + at;
  const short: Directory = {
    disks: view.getUint16(at + 4, true) + view.getUint16(at + 6, true),
    here: view.getUint16(at + 8, true),
    count: view.getUint16(at + 10, true),
    length: view.getUint32(at + 12, true),
    offset: view.getUint32(at + 16, true),
    end,
  };
  // Torch writes the Zip64 record always; fields of the short record that are too small for their value are full of ones.
  const long = await readZip64(source, end);
  const ones: Partial<Directory> = {
    here: 0xffff,
    count: 0xffff,
    length: 0xffffffff,
    offset: 0xffffffff,
  };
  const fits = (['disks', 'here', 'count', 'length', 'offset'] as const).every(
    (field) => long === undefined || short[field] === long[field] || short[field] === ones[field],
  );
  const found = long ?? short;
  const { offset, length, count } = found;
  if (!fits || found.disks !== 0 || found.here !== count || !(offset + length === found.end)) {
    throw brokenZip(source, 'its end record does not describe the file');
  }
  return found;
}

interface Directory {
  disks: number;
  /** Entries on this disk, and on all. */
  here: number;
  count: number;
  length: number;
  offset: number;
  /** Where the directory must end: at the first of the records behind it. */
  end: number;
}

/** The Zip64 end record, which the locator in front of the end record points at. */
async function readZip64(source: ByteSource, end: number): Promise<Directory | undefined> {
  if (end < 76) return undefined;
  const locator = viewOf(await source.read(end - 20, 20));
  if (locator.getUint32(0, true) !== LOCATOR64) return undefined;
  const place = safe(locator.getBigUint64(8, true));
  if (!(place + 56 <= end - 20))
    throw brokenZip(source, 'its Zip64 end record is not where it should be');
  const record = viewOf(await source.read(place, 56));
  if (record.getUint32(0, true) !== END64) {
    throw brokenZip(source, 'its Zip64 end record is not where it should be');
  }
  return {
    disks: record.getUint32(16, true) + record.getUint32(20, true),
    here: safe(record.getBigUint64(24, true)),
    count: safe(record.getBigUint64(32, true)),
    length: safe(record.getBigUint64(40, true)),
    offset: safe(record.getBigUint64(48, true)),
    end: place,
  };
}

type ParsedEntry = Omit<ZipEntry, 'end'>;

function parseDirectory(source: ByteSource, bytes: Uint8Array, count: number): ParsedEntry[] {
  const view = viewOf(bytes);
  const entries: ParsedEntry[] = [];
  let at = 0;
  while (at < bytes.length) {
    if (at + 46 > bytes.length || view.getUint32(at, true) !== CENTRAL) {
      throw brokenZip(source, 'its directory is damaged');
    }
    const flags = view.getUint16(at + 8, true);
    const method = view.getUint16(at + 10, true);
    const nameEnd = at + 46 + view.getUint16(at + 28, true);
    const extraEnd = nameEnd + view.getUint16(at + 30, true);
    const next = extraEnd + view.getUint16(at + 32, true);
    if (next > bytes.length) throw brokenZip(source, 'its directory is damaged');
    const name = entryName(source, bytes.subarray(at + 46, nameEnd));
    if ((flags & ENCRYPTED) !== 0) throw unsupported(source, `${brief(name)} is encrypted`);
    if (method !== 0 && method !== 8) {
      throw unsupported(source, `${brief(name)} is packed by method ${method}`);
    }
    const wide = zip64Fields(bytes.subarray(nameEnd, extraEnd));
    const field = (offset: number): number => {
      const value = view.getUint32(at + offset, true);
      return value === 0xffffffff ? (wide.shift() ?? value) : value;
    };
    const size = field(24);
    const packed = field(20);
    const start = field(42);
    const fits = method === 0 ? size === packed : size <= packed * MAX_RATIO;
    if (!fits || !Number.isSafeInteger(start + packed)) {
      throw brokenZip(source, `${brief(name)} declares ${size} bytes, packed into ${packed}`);
    }
    const crc = view.getUint32(at + 16, true);
    const trailing = (flags & 8) !== 0;
    entries.push({ name, deflated: method === 8, crc, packed, size, start, trailing });
    at = next;
  }
  if (entries.length !== count) {
    throw brokenZip(
      source,
      `its end record announces ${count} entries, the directory has ${entries.length}`,
    );
  }
  return entries;
}

/** The values of the Zip64 extra field (id 1), in the order of the fields that they replace: size, packed size, place. */
function zip64Fields(extra: Uint8Array): number[] {
  const view = viewOf(extra);
  for (let at = 0; at + 4 <= extra.length;) {
    const length = view.getUint16(at + 2, true);
    const end = at + 4 + length;
    if (view.getUint16(at, true) === 1 && end <= extra.length) {
      const values: number[] = [];
      for (let value = at + 4; value + 8 <= end; value += 8) {
        values.push(safe(view.getBigUint64(value, true)));
      }
      return values;
    }
    at = end;
  }
  return [];
}

function entryName(source: ByteSource, bytes: Uint8Array): string {
  let name: string;
  try {
    name = UTF8.decode(bytes);
  } catch (error) {
    throw brokenZip(source, 'an entry has a name that is not UTF-8', error);
  }
  const parts = name.replace(/\/$/, '').split('/');
  if (/[\\\0]/.test(name) || parts.some((part) => part === '' || part === '.' || part === '..')) {
    throw brokenZip(source, `an entry is named ${brief(name)}, which is no plain relative path`);
  }
  return name;
}

/** Entries by name, each with its end; refuses two of one name and entries that overlap. */
function separate(
  source: ByteSource,
  parsed: ParsedEntry[],
  directory: number,
): Map<string, ZipEntry> {
  const entries = new Map<string, ZipEntry>();
  const byPlace = parsed.toSorted((a, b) => a.start - b.start);
  byPlace.forEach((entry, index) => {
    const end = byPlace[index + 1]?.start ?? directory;
    if (entry.start + 30 + Buffer.byteLength(entry.name) + entry.packed > end) {
      throw brokenZip(source, `${brief(entry.name)} overlaps what follows it`);
    }
    if (entries.has(entry.name))
      throw brokenZip(source, `it has two entries named ${brief(entry.name)}`);
    entries.set(entry.name, { ...entry, end });
  });
  return entries;
}

/** A view for reading numbers. */
export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}

/** A 64-bit value as a number; NaN beyond 2^53, which then fits nowhere. */
function safe(value: bigint): number {
  return value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : NaN;
}

/** The refusal of an archive that contradicts itself. */
export function brokenZip(source: ByteSource, what: string, cause?: unknown): DataError {
  return new DataError(`${source.path} is not a sound zip archive: ${what}.`, {
    code: 'E_ZIP',
    hint: 'Download or copy the file again.',
    cause,
  });
}

function unsupported(source: ByteSource, what: string): DataError {
  return new DataError(`${source.path}: ${what}.`, {
    code: 'E_ZIP_UNSUPPORTED',
    hint: 'Pack the archive again with stored or deflated entries and without encryption.',
  });
}
