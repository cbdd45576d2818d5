/** What the page gets of runs, as JSON. The page is built from these types: nothing that needs Node is imported here. */
import type { Curve } from './curves.js';

/** A line of a run's events. */
export type Told = Readonly<Record<string, unknown>> & { readonly type: string };

/** `crashed`: it said that it was running, but no process is. */
export type ShownState = 'running' | 'finished' | 'interrupted' | 'failed' | 'crashed';

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
  /** Of the last update. */
  readonly loss: number | null;
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
  readonly probes: readonly Told[];
  readonly checkpoints: readonly Told[];
  readonly warnings: readonly Told[];
  readonly badRecords: { readonly count: number; readonly last: readonly Told[] };
  readonly diagnoses: readonly Told[];
  readonly recoveries: readonly Told[];
  /** Planned beside measured memory. */
  readonly memory: Told | null;
}

/** A field of two recipes that is not the same; `undefined` where one lacks it. */
export interface RecipeDifference {
  readonly field: string;
  readonly values: readonly unknown[];
}
