/**
 * Records of a Hugging Face dataset in Parquet: columns `conversations` or `messages`, `image` or `images` (paths, or
 * structs of `bytes` and `path`), `id`, and what else a record is read or refused by; other columns are not read.
 *
 * A row is read by the pages that hold it where the file has an index of pages, else with its whole row group: 10 MB take
 * about 10 ms.
 */
import { createHash } from 'node:crypto';
import {
  type AsyncBuffer,
  type ColumnChunk,
  type Compressors,
  type FileMetaData,
  parquetMetadataAsync,
  parquetReadObjects,
  parquetSchema,
  type SchemaTree,
} from 'hyparquet';
import { compressors } from 'hyparquet-compressors';

import { DataError } from '../../base/errors.js';
import { DataFile, type FileIdentity } from './data-file.js';
import { concernsRecord } from '../records/fields.js';
import type { ExactId } from './exact-id.js';
import type { RecordPlace } from './place.js';
import type { ReadRecord, RecordTable } from './record-table.js';

export interface ParquetTableSpec extends FileIdentity {
  readonly kind: 'parquet';
  readonly count: number;
  readonly columns: readonly string[];
  /** SHA-256 of what records say, their pictures left out. */
  readonly digest: string;
}

/** The library's, but for pages of no bytes: LZ4 makes them one byte, which it takes for the beginning of a match. */
const unpackers: Compressors = Object.fromEntries(
  Object.entries(compressors).map(([codec, unpack]) => [
    codec,
    (input, length) => (length === 0 ? new Uint8Array() : unpack(input, length)),
  ]),
);

const TEXT_COLUMNS = ['conversations', 'messages'];
/** What the length of a record is estimated from, and its id. */
const LENGTH_COLUMNS = ['id', ...TEXT_COLUMNS, 'system', 'system_prompt'];
const LARGEST_READ = 2 ** 28;
const ROWS_AT_ONCE = 256;

/**
 * @param largestRead bytes that may be read and unpacked for a single row
 * @throws DataError E_PARQUET_BROKEN, E_PARQUET_COLUMNS without conversations, E_PARQUET_GROUPS where too
 *   much would have to be read for a row
 */
export async function indexParquet(
  file: DataFile,
  largestRead = LARGEST_READ,
): Promise<ParquetTableSpec> {
  const { path } = file.identity;
  const metadata = await readMetadata(file);
  const present = parquetSchema(metadata).children.map(({ element }) => element.name);
  if (!TEXT_COLUMNS.some((name) => present.includes(name))) {
    throw new DataError(
      `${path} has no column conversations or messages; it has ${present.join(', ')}.`,
      { code: 'E_PARQUET_COLUMNS', hint: 'Rename the column of the conversations.' },
    );
  }
  const columns = present.filter(concernsRecord);
  checkGroups(path, metadata, columns, largestRead);
  return {
    kind: 'parquet',
    ...file.identity,
    count: Number(metadata.num_rows),
    columns,
    digest: await digest(file, metadata, columns),
  };
}

export class ParquetTable implements RecordTable {
  readonly #file: DataFile;
  readonly #spec: ParquetTableSpec;
  readonly #metadata: FileMetaData;

  private constructor(file: DataFile, spec: ParquetTableSpec, metadata: FileMetaData) {
    this.#file = file;
    this.#spec = spec;
    this.#metadata = metadata;
  }

  static async open(spec: ParquetTableSpec): Promise<ParquetTable> {
    const file = await DataFile.reopen(spec);
    return new ParquetTable(file, spec, await readMetadata(file));
  }

  place(index: number): RecordPlace {
    return { file: this.#spec.path, record: index + 1, line: null };
  }

  async read(index: number): Promise<ReadRecord> {
    try {
      const [row] = await this.#rows(index, index + 1, this.#spec.columns);
      return { ok: true, ...row! };
    } catch (error) {
      if (error instanceof DataError) throw error;
      return {
        ok: false,
        id: null,
        problem: {
          code: 'E_PARQUET_BROKEN',
          message: `the row cannot be read: ${String(error)}`,
          hint: 'Fetch or write the file again.',
        },
      };
    }
  }

  async *readTexts(from: number, to: number): AsyncGenerator {
    const columns = this.#spec.columns.filter((name) => LENGTH_COLUMNS.includes(name));
    for (let start = from; start < to; start += ROWS_AT_ONCE) {
      const end = Math.min(to, start + ROWS_AT_ONCE);
      try {
        for (const { json } of await this.#rows(start, end, columns)) yield json;
      } catch (error) {
        if (error instanceof DataError) throw error;
        yield* Array.from({ length: end - start }, () => undefined);
      }
    }
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  async #rows(rowStart: number, rowEnd: number, columns: readonly string[]): Promise<ExactId[]> {
    const rows = await parquetReadObjects({
      file: asyncBuffer(this.#file),
      metadata: this.#metadata,
      columns: [...columns],
      rowStart,
      rowEnd,
      compressors: unpackers,
      // Else every column of bytes is decoded as text, which destroys images.
      utf8: false,
      useOffsetIndex: true,
    });
    return rows.map(asRecord);
  }
}

async function readMetadata(file: DataFile): Promise<FileMetaData> {
  try {
    return await parquetMetadataAsync(asyncBuffer(file));
  } catch (cause) {
    if (cause instanceof DataError) throw cause;
    throw new DataError(`${file.identity.path} is broken Parquet: ${String(cause)}.`, {
      code: 'E_PARQUET_BROKEN',
      hint: 'Fetch or write the file again.',
      cause,
    });
  }
}

function checkGroups(
  path: string,
  { row_groups }: FileMetaData,
  columns: readonly string[],
  largestRead: number,
): void {
  for (const group of row_groups) {
    const bytes = group.columns
      .filter((chunk) => columns.includes(chunk.meta_data?.path_in_schema[0] ?? ''))
      .reduce((sum, chunk) => sum + bytesForOneRow(chunk), 0);
    if (bytes <= largestRead) continue;
    throw new DataError(
      `${path} has a row group of ${String(group.num_rows)} rows of which ${bytes} bytes would be read for each record.`,
      {
        code: 'E_PARQUET_GROUPS',
        hint: 'Write it again with small row groups, in Python: pyarrow.parquet.write_table(table, path, row_group_size=100).',
      },
    );
  }
}

const HASHED_AT_ONCE = 2 ** 22;

/** Pictures are most of a file and would have to be read for nothing else, so columns of bytes are not hashed. */
async function digest(
  file: DataFile,
  metadata: FileMetaData,
  columns: readonly string[],
): Promise<string> {
  const hash = createHash('sha256');
  const bytes = new Set(byteColumns(parquetSchema(metadata)));
  for (const { num_rows, columns: chunks } of metadata.row_groups) {
    hash.update(`${num_rows} rows\n`);
    for (const { meta_data } of chunks) {
      const { path_in_schema, total_compressed_size, ...at } = meta_data!;
      const name = path_in_schema.join('.');
      if (bytes.has(name) || !columns.includes(path_in_schema[0]!)) continue;
      // A broken file may point outside of itself; its rows will tell.
      const within = (place: bigint): number =>
        Math.min(file.identity.size, Math.max(0, Number(place)));
      const first = at.dictionary_page_offset ?? at.data_page_offset;
      const [start, end] = [within(first), within(first + total_compressed_size)];
      hash.update(`${name} ${end - start}\n`);
      for (let from = start; from < end; from += HASHED_AT_ONCE) {
        hash.update(await file.read(from, Math.min(HASHED_AT_ONCE, end - from)));
      }
    }
  }
  return hash.digest('hex');
}

/** The columns, with those that they lie in, of bytes that are no text. */
function byteColumns({ children, element, path }: SchemaTree): string[] {
  if (children.length > 0) return children.flatMap(byteColumns);
  const { type, converted_type: converted, logical_type: logical } = element;
  const isBytes = type === 'BYTE_ARRAY' && converted === undefined && logical === undefined;
  return isBytes ? [path.join('.')] : [];
}

/** Without an index of pages the whole chunk of a column; with one its dictionary, which may be nearly all of it. */
function bytesForOneRow({ meta_data, offset_index_offset }: ColumnChunk): number {
  const { total_compressed_size, data_page_offset, dictionary_page_offset } = meta_data!;
  if (offset_index_offset === undefined) return Number(total_compressed_size);
  return Number(data_page_offset) - Number(dictionary_page_offset ?? data_page_offset);
}

function asyncBuffer(file: DataFile): AsyncBuffer {
  const { size } = file.identity;
  return {
    byteLength: size,
    slice: async (start, end = size) => {
      if (start < 0 || start > end || end > size)
        throw new RangeError('it points outside of itself');
      return (await file.read(start, end - start)).buffer as ArrayBuffer;
    },
  };
}

/** A row as `withExactId` leaves a record. */
function asRecord(row: Record<string, unknown>): ExactId {
  const json = asJson(row) as Record<string, unknown>;
  const id = json['id'] ?? null;
  if (id === null || typeof id === 'number') return { json };
  if (typeof id === 'string')
    return { json, idText: typeof row['id'] === 'bigint' ? id : undefined };
  const idText = JSON.stringify(id);
  return { json: { ...json, id: idText }, idText };
}

/** As JSON would have it: 64-bit integers as numbers or, if too large, as text. */
function asJson(value: unknown): unknown {
  if (typeof value === 'bigint') {
    const number = Number(value);
    return Number.isSafeInteger(number) ? number : String(value);
  }
  if (Array.isArray(value)) return value.map(asJson);
  if (typeof value !== 'object' || value === null || value instanceof Uint8Array) return value;
  return Object.fromEntries(Object.entries(value).map(([key, inner]) => [key, asJson(inner)]));
}
