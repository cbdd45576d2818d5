/** Where a record stands and why it is left out, for people: plain data, since it travels between threads and into logs. */
import { DataError } from '../../base/errors.js';
import { shortText } from '../../base/short-text.js';
import { type RecordId, type RecordProblem, shownId } from '../records/record.js';

export interface RecordPlace {
  readonly file: string;
  /** Number of the record in its file, from 1. */
  readonly record: number;
  /** Line on which it begins, from 1; null in files without lines (Parquet). */
  readonly line: number | null;
}

/** A record that is not trained on. */
export interface RejectedRecord extends RecordPlace {
  readonly id: RecordId;
  /** Stable, as in errors. */
  readonly code: string;
  readonly reason: string;
  readonly hint: string;
  /** Whether it cannot be used, or is only longer than `maxLength` where such records are left out. */
  readonly kind: 'bad' | 'overlong';
}

/** `train.jsonl:17`, `train.json:102 (record 9)`, `train.parquet (record 9)`. */
export function describePlace({ file, record, line }: RecordPlace): string {
  const number = line === record ? '' : ` (record ${record})`;
  const name = shortText(file);
  return line === null ? `${name}${number}` : `${name}:${line}${number}`;
}

/** `train.jsonl:17, id "7": no token of the record is learned` */
export function describeRejected(rejected: RejectedRecord): string {
  const { id, reason } = rejected;
  const name = id === null ? '' : `, id ${shownId(id)}`;
  return `${describePlace(rejected)}${name}: ${reason.replace(/\.$/, '')}`;
}

export function rejectedRecord(
  place: RecordPlace,
  id: RecordId,
  { code, message, hint }: RecordProblem,
  kind: RejectedRecord['kind'] = 'bad',
): RejectedRecord {
  return { ...place, id, code, reason: message, hint, kind };
}

/** The error of a run that stops at a bad record. */
export function rejectionError(rejected: RejectedRecord): DataError {
  const { code, hint } = rejected;
  return new DataError(`${describeRejected(rejected)}.`, {
    code,
    hint: `${hint} Or leave such records out: set \`data.badRecords\` to "skip".`,
  });
}
