/** What the page gets of runs, as JSON. The page is built from these types: nothing that needs Node is imported here. */
import type { Curve } from './curves.js';

/** A line of a run's events. */
export type Told = Readonly<Record<string, unknown>> & { readonly type: string };

/** `crashed`: it said that it was running, but no process is. */
export type ShownState = 'running' | 'finished' | 'interrupted' | 'failed' | 'crashed';

/** A record by where it stands; see `GuardedRecord`. */
export interface ShownPlace {
  readonly source: string;
  readonly line: number | null;
  /** Its number in the file, from 1. */
  readonly record: number;
  readonly id: string | number | null;
}

/** A cause that was told, and when; see `Told` of the guard. */
export interface ShownCause {
  readonly diagnosis: {
    readonly cause: string;
    readonly confidence: number;
    readonly message: string;
    readonly evidence: readonly string[];
    readonly fix: string;
    readonly records: readonly ShownPlace[];
    readonly module: string | null;
    readonly rank: number | null;
    readonly page: string;
  };
  readonly updates: readonly number[];
}

/** The score of a task after an update; see `ScoreEvent`. */
export interface ShownScore {
  readonly update: number;
  readonly name: string;
  readonly task: string;
  readonly harness: string;
  readonly score: number;
  readonly interval: readonly [low: number, high: number];
  readonly n: number;
}

export interface ShownRecovery {
  readonly update: number;
  readonly action: string;
  readonly message: string;
}

/** What a look before the first update has found; see `FindingEvent`. */
export interface ShownFinding {
  readonly cause: string;
  readonly severity: 'error' | 'warning';
  readonly message: string;
  readonly fix: string;
  readonly source: string | null;
  readonly line: number | null;
  readonly count: number;
}

export interface ShownBadRecord {
  readonly update: number;
  readonly record: Omit<ShownPlace, 'source'> & {
    readonly file: string;
    readonly code: string;
    readonly reason: string;
  };
}

/** A record as it stands in its file; see `ShownRecord` of the guard. */
export interface RecordView {
  /** Its JSON, indented; or why it cannot be shown. */
  readonly text: string;
  /** `data:` addresses. */
  readonly pictures: readonly string[];
}

export interface RunCard {
  readonly id: string;
  readonly recipe: string;
  readonly state: ShownState;
  /** Why it failed. */
  readonly reason: string | null;
  readonly created: string;
  readonly changed: string;
  readonly updates: number;
  readonly planned: number | null;
  /** Seconds that are left at the pace of late; `null` where that is not known, or nothing runs. */
  readonly remaining: number | null;
  /** Of the last update; `null` where there is none. */
  readonly loss: number | 'not finite' | null;
  /** A rough curve. */
  readonly losses: Curve['mean'];
  readonly version: number;
}

export interface RunView extends RunCard {
  readonly folder: string;
  /** Numbers that there are curves of. */
  readonly keys: readonly string[];
  /** What was measured at the last update. */
  readonly last: Readonly<Record<string, number | null>>;
  /** How it began, the last time. */
  readonly start: Told | null;
  readonly end: Told | null;
  readonly validations: readonly Told[];
  /** Of tasks, each time they were asked. */
  readonly scores: readonly ShownScore[];
  readonly probes: readonly Told[];
  readonly checkpoints: readonly Told[];
  readonly warnings: readonly Told[];
  readonly badRecords: { readonly count: number; readonly last: readonly ShownBadRecord[] };
  /** By cause. */
  readonly diagnoses: readonly ShownCause[];
  readonly recoveries: readonly ShownRecovery[];
  /** Of the last start. */
  readonly findings: readonly ShownFinding[];
  /** Planned beside measured memory. */
  readonly memory: Told | null;
}

/** A field of two recipes that is not the same; `undefined` where one lacks it. */
export interface RecipeDifference {
  readonly field: string;
  readonly values: readonly unknown[];
}
