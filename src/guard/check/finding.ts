/** What `patina check` finds: one finding for each kind of fault, with how often and where it stands first. */
import type { RecordId } from '../../data/index.js';
import type { FindingEvent } from '../../train/index.js';
import type { Cause } from '../causes.js';

/** Where one of the records stands. */
export interface FindingPlace {
  readonly source: string;
  /** Line on which the record begins, from 1; null in files without lines (Parquet). */
  readonly line: number | null;
  /** Number of the record in its file, from 1. */
  readonly record: number;
  readonly id: RecordId;
  /** What is wrong with this one. */
  readonly message: string;
}

/** What a run tells of its first records, and more. */
export interface Finding extends FindingEvent {
  readonly cause: Cause;
  /** Which kind within the cause: stable, as in errors and warnings. */
  readonly code: string;
  /** The first records; none where it is not about records. */
  readonly places: readonly FindingPlace[];
}

/** What is the same for all records of a kind. */
export interface Kind {
  readonly cause: Cause;
  readonly code: string;
  readonly severity: Finding['severity'];
  readonly fix: string;
  /** Whether `--fix` leaves such records out. */
  readonly leave: boolean;
}

/** A finding that is not about records. */
export function finding(
  cause: Cause,
  {
    source = null,
    severity = 'error',
    count = 1,
    ...said
  }: Pick<Finding, 'code' | 'message' | 'fix'> &
    Partial<Pick<Finding, 'source' | 'severity' | 'count'>>,
): Finding {
  return {
    ...{ type: 'finding', cause, severity, ...said },
    ...{ source, line: null, id: null, count, places: [] },
  };
}
