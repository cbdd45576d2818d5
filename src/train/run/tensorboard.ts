/**
 * Event files of TensorBoard: TFRecord framing around `Event` messages (tensorflow/core/util/event.proto,
 * framework/summary.proto), scalars and text. Only the few fields in use are encoded here.
 *
 * A record is: length (uint64), masked CRC-32C of the length, data, masked CRC-32C of the data; all little-endian.
 * A record torn by a crash is where TensorBoard stops reading that file; each opening begins a file of its own.
 */
import { closeSync, mkdirSync, openSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { writeError } from '../../base/system-error.js';

export interface TensorBoardOptions {
  /** The update after which a resumed run goes on: what an earlier file holds beyond it is hidden. */
  resumedAfter?: number | undefined;
  /** Seconds since 1970, for tests. @default the clock */
  now?: () => number;
}

const START = 1;
const DT_STRING = 7;
const DATA_CLASS_TENSOR = 2;

/** Appends events to one file of `folder`. */
export class TensorBoardWriter {
  readonly path: string;
  readonly #now: () => number;
  #descriptor: number | undefined;

  /** @throws EnvironmentError E_DISK_FULL, E_UNWRITABLE, here and at each event. */
  constructor(
    folder: string,
    { resumedAfter, now = () => Date.now() / 1000 }: TensorBoardOptions = {},
  ) {
    this.#now = now;
    const seconds = Math.floor(now()).toString().padStart(10, '0');
    this.path = join(folder, `events.out.tfevents.${seconds}.${hostname()}.${process.pid}.0`);
    this.#guarded(() => {
      mkdirSync(folder, { recursive: true });
      this.#descriptor = openSync(this.path, 'a');
    });
    this.#event(0, [text(3, 'brain.Event:2')]);
    if (resumedAfter !== undefined) {
      this.#event(resumedAfter + 1, [message(7, [integer(1, START)])]);
    }
  }

  /** One point of each curve; values that are not finite are drawn as gaps. */
  scalars(update: number, values: Readonly<Record<string, number>>): void {
    const points = Object.entries(values).map(([tag, value]) =>
      message(1, [text(1, tag), float(2, value)]),
    );
    if (points.length > 0) this.#event(update, [message(5, points)]);
  }

  /** A text in Markdown, for example a recipe or an answer to a probe question. */
  text(update: number, tag: string, markdown: string): void {
    const metadata = [message(1, [text(1, 'text')]), integer(4, DATA_CLASS_TENSOR)];
    const shape = [message(2, [integer(1, 1)])];
    const tensor = [integer(1, DT_STRING), message(2, shape), text(8, markdown)];
    const value = [text(1, tag), message(9, metadata), message(8, tensor)];
    this.#event(update, [message(5, [message(1, value)])]);
  }

  close(): void {
    if (this.#descriptor !== undefined) closeSync(this.#descriptor);
    this.#descriptor = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  #event(update: number, fields: Buffer[]): void {
    const step = update === 0 ? [] : [integer(2, update)];
    const record = frame(Buffer.concat([double(1, this.#now()), ...step, ...fields]));
    this.#guarded(() => writeSync(this.#descriptor ?? -1, record));
  }

  #guarded(work: () => void): void {
    try {
      work();
    } catch (error) {
      throw writeError(error, this.path, 'write TensorBoard events');
    }
  }
}

function frame(data: Buffer): Buffer {
  const header = Buffer.alloc(12);
  header.writeBigUInt64LE(BigInt(data.length));
  header.writeUInt32LE(maskedCrc32c(header.subarray(0, 8)), 8);
  const footer = Buffer.alloc(4);
  footer.writeUInt32LE(maskedCrc32c(data));
  return Buffer.concat([header, data, footer]);
}

// Protocol Buffers: a field is its number and wire type (0 varint, 1 and 5 fixed, 2 with a length), then its value.

function varint(value: number): Buffer {
  const bytes = [];
  let rest = BigInt.asUintN(64, BigInt(value));
  for (; rest > 0x7fn; rest >>= 7n) bytes.push(Number(rest & 0x7fn) | 0x80);
  return Buffer.from([...bytes, Number(rest)]);
}

function integer(field: number, value: number): Buffer {
  return Buffer.concat([varint(field << 3), varint(value)]);
}

function double(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeDoubleLE(value);
  return Buffer.concat([varint((field << 3) | 1), bytes]);
}

function float(field: number, value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeFloatLE(value);
  return Buffer.concat([varint((field << 3) | 5), bytes]);
}

function text(field: number, value: string): Buffer {
  return message(field, [Buffer.from(value)]);
}

function message(field: number, parts: Buffer[]): Buffer {
  const body = Buffer.concat(parts);
  return Buffer.concat([varint((field << 3) | 2), varint(body.length), body]);
}

// CRC-32C (Castagnoli, polynomial 0x1EDC6F41, reflected), the checksum of TFRecord files; RFC 3720, appendix B.4.

const TABLE = Uint32Array.from({ length: 256 }, (_, byte) => {
  let crc = byte;
  for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0x82f63b78 : crc >>> 1;
  return crc;
});

/** The checksum of `bytes`, an unsigned 32-bit integer. */
export function crc32c(bytes: Uint8Array): number {
  let crc = 0xffffffff;
  for (const byte of bytes) crc = (crc >>> 8) ^ TABLE[(crc ^ byte) & 0xff]!;
  return (crc ^ 0xffffffff) >>> 0;
}

/** The checksum as TFRecord stores it: turned and shifted, since a CRC of data that holds CRCs is weak. */
export function maskedCrc32c(bytes: Uint8Array): number {
  const crc = crc32c(bytes);
  return (((crc >>> 15) | (crc << 17)) + 0xa282ead8) >>> 0;
}
