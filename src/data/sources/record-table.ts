/** Records of files, read one at a time in any order. */
import type { RecordProblem } from '../records/record.js';
import { JsonTable, type JsonTableSpec } from './json-table.js';
import { ParquetTable, type ParquetTableSpec } from './parquet-table.js';
import type { RecordPlace } from './place.js';

/** What finding records in a file has yielded; cloned into threads, where tables are opened from it. */
export type TableSpec = JsonTableSpec | ParquetTableSpec;

/** A file with its place among all records; plain data, cloned into threads. */
export interface NumberedFile {
  /** Number of its first record. */
  readonly first: number;
  readonly table: TableSpec;
  /** What relative image paths start from. */
  readonly images: string;
}

export type ReadRecord =
  | { readonly ok: true; readonly json: unknown }
  | { readonly ok: false; readonly problem: RecordProblem };

export interface RecordTable {
  place(index: number): RecordPlace;
  /** @throws DataError E_DATA_READ, E_DATA_CHANGED when the file fails, not the record */
  read(index: number): Promise<ReadRecord>;
  /** Records `from` to `to` (exclusive), perhaps without their images; undefined for one that cannot be read. */
  readTexts(from: number, to: number): AsyncIterable<unknown>;
  close(): Promise<void>;
}

/** @throws DataError E_DATA_READ, E_DATA_CHANGED */
export async function openTable(spec: TableSpec): Promise<RecordTable> {
  return spec.kind === 'json' ? JsonTable.open(spec) : ParquetTable.open(spec);
}

/** The file that holds a record. */
export function fileOf(files: readonly NumberedFile[], record: number): NumberedFile | undefined {
  return files.find(({ first, table }) => record >= first && record < first + table.count);
}
