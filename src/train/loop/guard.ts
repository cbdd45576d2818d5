/**
 * The seam between the loop and who guards it. The loop owns it and calls: the numbers of each update are seen; a bad one is examined,
 * with all that running it again takes; the answer says what becomes of it. How that is decided lies in another room.
 */

import type { Recipe } from '../../config/index.js';
import type { LoadedSample } from '../../data/index.js';
import type { Batch, SegmentedModel } from '../../models/index.js';
import type { Peers } from '../../parallel/index.js';
import type { Holding } from '../../torch/index.js';
import type { DiagnosisEvent, GuardedRecord, UpdateEvent } from '../events.js';
import type { ChosenPrecision } from '../prepare/precision.js';
import type { UpdateNumbers, UpdateSetup } from '../step/update.js';

/** An update as it came out: the same on all ranks but for speeds. */
export interface SeenUpdate {
  readonly event: UpdateEvent;
  readonly numbers: Readonly<Record<UpdateNumbers, Float32Array>>;
  /** Parameters that `numbers.tensorNorms` belong to. */
  readonly tensorNames: readonly string[];
}

/** What running an update again takes. A skipped one changed nothing, so that weights are those that it had. */
export interface Scene extends SeenUpdate {
  readonly recipe: Recipe;
  readonly model: SegmentedModel;
  readonly setup: UpdateSetup;
  readonly precision: Pick<ChosenPrecision, 'compute'>;
  readonly ranks: Peers;
  /** This rank's records by micro-batch; as many on all ranks. */
  readonly microBatches: readonly (readonly LoadedSample[])[];
  /** Some of this rank's records of an update before it that came out well; none at first. */
  readonly control: readonly LoadedSample[];
  /** A batch of records, or `null` of none. */
  readonly batch: (samples: readonly LoadedSample[]) => Holding<Batch | null>;
  /** Whether there is something to roll back to. */
  readonly canRollBack: boolean;
}

export type Action = 'go-on' | 'leave-out' | 'quarantine' | 'roll-back' | 'stop';

export interface Verdict {
  readonly diagnosis: DiagnosisEvent | null;
  readonly action: Action;
  /** A sentence about the action. */
  readonly message: string;
  readonly records: readonly GuardedRecord[];
  readonly budgetLeft: number;
}

/** What of a guard a checkpoint keeps. */
export interface GuardCounters {
  /** Bad updates that were answered. */
  readonly answered: number;
}

export interface Guard {
  /** Sees each update. @returns whether it is to be examined; the same on all ranks */
  see(update: SeenUpdate): boolean;
  /** What can be told of a model before its first update. */
  begin(model: SegmentedModel): readonly DiagnosisEvent[];
  /** What an error that ends the run comes of, where that is known. */
  explain(error: unknown, update: number): DiagnosisEvent | null;
  /** Finds out what is wrong with an update and says what to do; all ranks call it, and get the same. */
  examine(scene: Scene): Promise<Verdict>;
  counters(): GuardCounters;
  restore(counters: GuardCounters): void;
}

export type MakeGuard = (recipe: Recipe) => Guard;
