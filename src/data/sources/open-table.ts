/** Opens the files of records that were found, each by its kind. */
import { JsonTable, type JsonTableSpec } from './json-table.js';
import { ParquetTable, type ParquetTableSpec } from './parquet-table.js';
import type { RecordTable } from './record-table.js';

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

/** @throws DataError E_DATA_READ, E_DATA_CHANGED */
export async function openTable(spec: TableSpec): Promise<RecordTable> {
  return spec.kind === 'json' ? JsonTable.open(spec) : ParquetTable.open(spec);
}

/** The file that holds a record. */
export function fileOf(files: readonly NumberedFile[], record: number): NumberedFile | undefined {
  return files.find(({ first, table }) => record >= first && record < first + table.count);
}
