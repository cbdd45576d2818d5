import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';

import { crc32c, maskedCrc32c, TensorBoardWriter } from './tensorboard.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-board-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A message as its fields, each with all its values: numbers, or bytes for what has a length. */
type Message = Record<number, (number | Buffer)[]>;

/** Reads Protocol Buffers without a schema. */
function decode(bytes: Buffer): Message {
  const fields: Message = {};
  let at = 0;
  const varint = (): number => {
    let value = 0n;
    for (let shift = 0n; ; shift += 7n) {
      const byte = bytes[at++]!;
      value |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return Number(BigInt.asIntN(64, value));
    }
  };
  while (at < bytes.length) {
    const key = varint();
    const read: Record<number, () => number | Buffer> = {
      0: varint,
      1: () => bytes.readDoubleLE((at += 8) - 8),
      2: () => {
        const length = varint();
        return bytes.subarray(at, (at += length));
      },
      5: () => bytes.readFloatLE((at += 4) - 4),
    };
    (fields[key >> 3] ??= []).push(read[key & 7]!());
  }
  return fields;
}

/** Reads TFRecords and checks both checksums of each. */
function records(path: string): Message[] {
  const bytes = readFileSync(path);
  const found: Message[] = [];
  for (let at = 0; at < bytes.length;) {
    const length = Number(bytes.readBigUInt64LE(at));
    expect(bytes.readUInt32LE(at + 8)).toBe(maskedCrc32c(bytes.subarray(at, at + 8)));
    const data = bytes.subarray(at + 12, at + 12 + length);
    expect(bytes.readUInt32LE(at + 12 + length)).toBe(maskedCrc32c(data));
    found.push(decode(data));
    at += 16 + length;
  }
  return found;
}

const inner = (message: Message, ...path: number[]): Message =>
  path.reduce((outer, field) => decode(outer[field]![0] as Buffer), message);
const text = (message: Message, field: number): string => String(message[field]![0]);

test('CRC-32C gives the check values of the standard', () => {
  expect(crc32c(Buffer.from('123456789'))).toBe(0xe3069283);
  expect(crc32c(Buffer.alloc(32))).toBe(0x8a9136aa);
  expect(crc32c(Buffer.alloc(32, 0xff))).toBe(0x62a8ab43);
  expect(crc32c(Buffer.alloc(0))).toBe(0);
});

test('scalars are framed events with step, time, tag and value', () => {
  const board = new TensorBoardWriter(join(folder, 'new'), { now: () => 1234567890.5 });
  board.scalars(1, { loss: 2.5, 'learning rate': 1e-3 });
  board.scalars(300, { loss: NaN });
  board.scalars(301, {});
  board.close();
  expect(basename(board.path)).toMatch(/^events\.out\.tfevents\.1234567890\./);
  const [version, first, second, ...more] = records(board.path);
  expect(more).toEqual([]);
  expect(text(version!, 3)).toBe('brain.Event:2');
  expect(first![1]).toEqual([1234567890.5]);
  expect(first![2]).toEqual([1]);
  const values = inner(first!, 5)[1]!.map((value) => decode(value as Buffer));
  expect(values.map((value) => [text(value, 1), value[2]![0]])).toEqual([
    ['loss', 2.5],
    ['learning rate', Math.fround(1e-3)],
  ]);
  expect(second![2]).toEqual([300]);
  expect(inner(second!, 5, 1)[2]).toEqual([NaN]);
});

test('text is a string tensor of the text plug-in', () => {
  const board = new TensorBoardWriter(folder);
  board.text(5, 'probe', '**Größe**');
  board.close();
  const value = inner(records(board.path)[1]!, 5, 1);
  expect(text(value, 1)).toBe('probe');
  expect(text(inner(value, 9, 1), 1)).toBe('text');
  const tensor = inner(value, 8);
  expect(tensor[1]).toEqual([7]);
  expect(inner(tensor, 2, 2)[1]).toEqual([1]);
  expect(text(tensor, 8)).toBe('**Größe**');
});

test('a resumed run hides what came after the point it goes on from', () => {
  const board = new TensorBoardWriter(folder, { resumedAfter: 40 });
  board.close();
  const restart = records(board.path)[1]!;
  expect(restart[2]).toEqual([41]);
  expect(inner(restart, 7)[1]).toEqual([1]);
  expect(readdirSync(folder)).toHaveLength(1);
});

test('a folder that cannot be written is a typed error', () => {
  writeFileSync(join(folder, 'file'), '');
  expect(() => new TensorBoardWriter(join(folder, 'file'))).toThrow(
    expect.objectContaining({ code: 'E_UNWRITABLE', exitCode: 3 }),
  );
});
