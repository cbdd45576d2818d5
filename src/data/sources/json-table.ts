/**
 * Records of a JSON array or of JSON Lines. Only where each record begins and ends is held in memory (20 bytes a
 * record, shared between threads): a gigabyte of conversations is never in memory at once.
 */
import { isUtf8 } from 'node:buffer';
import { createHash } from 'node:crypto';

import { DataError } from '../../base/errors.js';
import { isObject } from '../../text/json.js';
import type { RecordId } from '../records/record.js';
import { DataFile, type FileIdentity } from './data-file.js';
import { withExactId } from './exact-id.js';
import { ArrayScanner, LineScanner, type Scanner, type Span } from './json-scan.js';
import type { RecordPlace } from './place.js';
import type { ReadRecord, RecordTable } from './record-table.js';

export interface JsonTableSpec extends FileIdentity {
  readonly kind: 'json';
  readonly count: number;
  /** SHA-256 of the file. */
  readonly digest: string;
  /** Where each record begins and ends in the file: 2 x count. */
  readonly spans: Float64Array;
  /** The line of each record. */
  readonly lines: Uint32Array;
}

const BLOCK = 2 ** 20;
const LARGEST_RECORD = 2 ** 28;
const UTF8_MARK = Buffer.from([0xef, 0xbb, 0xbf]);

/**
 * Finds the records of a file that begins with `[` (an array) or `{` (JSON Lines), whatever it is called.
 *
 * @throws DataError E_DATA_FORMAT for a file that is neither, E_DATA_JSON for an array that is cut off or broken
 */
export async function indexJson(file: DataFile, signal?: AbortSignal): Promise<JsonTableSpec> {
  const { path, size } = file.identity;
  const starts: number[] = [];
  const lines: number[] = [];
  const found = ({ start, end, line }: Span): void => {
    starts.push(start, end);
    lines.push(line);
  };
  let scanner: Scanner | undefined;
  const hash = createHash('sha256');
  for (let at = 0; at < size; at += BLOCK) {
    signal?.throwIfAborted();
    let block = await file.read(at, Math.min(BLOCK, size - at));
    hash.update(block);
    const marked = at === 0 && block.subarray(0, 3).equals(UTF8_MARK);
    if (marked) block = block.subarray(UTF8_MARK.length);
    scanner ??= scannerFor(block, path, found, marked ? UTF8_MARK.length : 0);
    guarded(path, () => scanner!.push(block));
  }
  guarded(path, () => scanner?.end());
  return {
    kind: 'json',
    ...file.identity,
    count: lines.length,
    digest: hash.digest('hex'),
    spans: shared(Float64Array, starts),
    lines: shared(Uint32Array, lines),
  };
}

export class JsonTable implements RecordTable {
  readonly #file: DataFile;
  readonly #spec: JsonTableSpec;

  private constructor(file: DataFile, spec: JsonTableSpec) {
    this.#file = file;
    this.#spec = spec;
  }

  static async open(spec: JsonTableSpec): Promise<JsonTable> {
    return new JsonTable(await DataFile.reopen(spec), spec);
  }

  place(index: number): RecordPlace {
    const { path, lines } = this.#spec;
    return { file: path, record: index + 1, line: lines[index]! };
  }

  async read(index: number): Promise<ReadRecord> {
    const start = this.#spec.spans[2 * index]!;
    const length = this.#spec.spans[2 * index + 1]! - start;
    if (length > LARGEST_RECORD) {
      return fault('E_RECORD_SIZE', `the record has ${length} bytes, over ${LARGEST_RECORD}`);
    }
    const bytes = await this.#file.read(start, length);
    if (!isUtf8(bytes)) {
      return fault('E_RECORD_TEXT', 'the record is not text in UTF-8', legibleId(bytes));
    }
    const text = bytes.toString('utf8');
    try {
      return { ok: true, ...withExactId(JSON.parse(text), text) };
    } catch (error) {
      return fault('E_RECORD_JSON', `the record is not JSON: ${(error as Error).message}`);
    }
  }

  async *readTexts(from: number, to: number): AsyncGenerator {
    for (let index = from; index < to; index++) {
      const record = await this.read(index);
      yield record.ok ? record.json : undefined;
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }
}

const HINTS = {
  E_RECORD_SIZE: 'Take it out; images belong into files of their own.',
  E_RECORD_TEXT: 'Save the file as UTF-8.',
  E_RECORD_JSON:
    'Mend or remove it: the file has to be one array of objects, or one object a line.',
} as const;

function fault(code: keyof typeof HINTS, message: string, id: RecordId = null): ReadRecord {
  return { ok: false, id, problem: { code, message, hint: HINTS[code] } };
}

/** The id of a record that is not text in UTF-8, where the fault lies elsewhere in it. */
function legibleId(bytes: Buffer): RecordId {
  try {
    const text = bytes.toString('utf8');
    const { json } = withExactId(JSON.parse(text), text);
    const id = isObject(json) ? json['id'] : undefined;
    const isLegible = typeof id === 'number' || (typeof id === 'string' && !id.includes('\ufffd'));
    return isLegible ? id : null;
  } catch {
    return null;
  }
}

function scannerFor(
  head: Buffer,
  path: string,
  found: (span: Span) => void,
  start: number,
): Scanner {
  const first = /[^\s]/.exec(head.toString('latin1'))?.[0];
  if (first === '[') return new ArrayScanner(found, start);
  if (first === '{' || first === undefined) return new LineScanner(found, start);
  throw new DataError(`${path} is neither JSON nor Parquet: it begins with ${shown(head)}.`, {
    code: 'E_DATA_FORMAT',
    hint: 'Give one JSON array of records, JSON Lines with one record a line, or Parquet; unpack archives first.',
  });
}

function shown(head: Buffer): string {
  const bytes = head.subarray(0, 12);
  return isUtf8(bytes) ? JSON.stringify(bytes.toString()) : `the bytes ${bytes.toString('hex')}`;
}

function guarded(path: string, scan: () => void): void {
  try {
    scan();
  } catch (cause) {
    if (!(cause instanceof SyntaxError)) throw cause;
    throw new DataError(`${path} is not a JSON array: ${cause.message}.`, {
      code: 'E_DATA_JSON',
      hint: 'Fetch or write the file again.',
      cause,
    });
  }
}

/** A typed array in memory that all threads see. */
function shared<T extends Float64Array | Uint32Array>(
  type: { new (buffer: SharedArrayBuffer): T; readonly BYTES_PER_ELEMENT: number },
  values: readonly number[],
): T {
  const array = new type(new SharedArrayBuffer(type.BYTES_PER_ELEMENT * values.length));
  array.set(values);
  return array;
}
