/** Records of files, read one at a time in any order. */
import type { RecordId, RecordProblem } from '../records/record.js';
import type { ExactId } from './exact-id.js';
import type { RecordPlace } from './place.js';

export type ReadRecord =
  | ({ readonly ok: true } & ExactId)
  | { readonly ok: false; readonly id: RecordId; readonly problem: RecordProblem };

export interface RecordTable {
  place(index: number): RecordPlace;
  /** @throws DataError E_DATA_READ, E_DATA_CHANGED when the file fails, not the record */
  read(index: number): Promise<ReadRecord>;
  /** Records `from` to `to` (exclusive), perhaps without their images; undefined for one that cannot be read. */
  readTexts(from: number, to: number): AsyncIterable<unknown>;
  close(): Promise<void>;
}
