/**
 * What a training run tells while it runs: plain JSON, one object per event. The command line prints these, the run folder
 * keeps them, and `for await (const event of train(recipe))` hands them out.
 */

import type {
  DataCounts,
  RecordId,
  RecordPlace,
  RejectedRecord,
  SourceFacts,
} from '../data/index.js';
import type { ChoiceRow } from './prepare/bases.js';
import type { TrainableRow } from './prepare/trainable.js';
import type { StepProfile } from './profile/step-profile.js';

/** Something that takes time before the run begins. */
export interface LoadingEvent {
  readonly type: 'loading';
  /** A sentence without its full stop. */
  readonly what: string;
}

/** Everything that is decided before the first update. */
export interface StartEvent {
  readonly type: 'start';
  readonly recipe: string;
  /** Folder of the run; `null` for a dry run. */
  readonly run: string | null;
  /** Updates that were done before, where a run goes on; else 0. */
  readonly resumedFrom: number;
  readonly device: string;
  /** Sentences about what was chosen and why: precision, effective batch, what changes for a run that goes on. */
  readonly statements: readonly string[];
  readonly table: readonly TrainableRow[];
  /** Number types that save memory: what each saves, costs, and does to numbers. */
  readonly choices: readonly ChoiceRow[];
  readonly parameters: { readonly trained: number; readonly total: number };
  readonly data: {
    readonly sources: readonly SourceFacts[];
    readonly recordsPerEpoch: number;
    readonly validationRecords: number;
  };
  readonly updates: {
    readonly planned: number;
    readonly perEpoch: number;
    readonly warmup: number;
    /** Passes over the data when all planned updates are done. */
    readonly epochs: number;
  };
}

/** What one rank did in an update. */
export interface RankFacts {
  readonly rank: number;
  /** Tokens of its own records. */
  readonly tokensPerSecond: number;
  /** Share of the time that it waited for data, 0 to 1. */
  readonly waiting: number;
  /** Most bytes that its device had given out at once when the update began. */
  readonly peakBytes: number;
}

/** One update; comes one update late on a GPU, so that nothing waits for the device. */
export interface UpdateEvent {
  readonly type: 'update';
  /** Updates done, this one included. */
  readonly update: number;
  readonly epoch: number;
  /** Mean loss of the supervised tokens; `null` for an update without any. */
  readonly loss: number | null;
  /** Norm of the gradient before clipping. */
  readonly gradientNorm: number;
  /** Of the recipe's `optimizer.learningRate`, after warm-up, decay and the rule for the batch. */
  readonly learningRate: number;
  /** Records, tokens and images that the update was made of; image tokens count as tokens. */
  readonly counts: DataCounts;
  /**
   * Share of `batchTokens` that was filled, 0 to 1, where the recipe has it: over the micro-batches of all ranks, those that a rank
   * waited out without records too.
   */
  readonly filled?: number;
  readonly seconds: number;
  /** Tokens of pictures included. */
  readonly tokensPerSecond: number;
  readonly samplesPerSecond: number;
  /** Share of the time that was spent waiting for data, 0 to 1. */
  readonly waiting: number;
  readonly memory: {
    /** Most bytes that the device has given out at once. */
    readonly peakBytes: number;
    /** Bytes that the device has. */
    readonly totalBytes: number;
  };
  /**
   * The gradient was not finite. Weights and moments are as before, but with `optimizer.updateInBackward`, where only the
   * segments named in `skippedSegments` are.
   */
  readonly skipped: boolean;
  /** Segments that were left out where others were applied; `null` where the update was applied or left out as a whole. */
  readonly skippedSegments: readonly string[] | null;
  /** `null` where losses are not scaled. */
  readonly lossScale: number | null;
  /**
   * How far it moved a piece of one tensor, `||w' - w|| / ||w||`, the optimizer's groups in turn: 1e-5 to 1e-3 is usual. Of the first rank's part;
   * absent where the update was left out, weights were 0, are updated in host memory or in the backward.
   */
  readonly step?: { readonly tensor: string; readonly group: string; readonly ratio: number };
  /** By rank, where there are several; all else is of all of them, and `memory` of the first. */
  readonly ranks?: readonly RankFacts[];
}

export interface ValidationEvent {
  readonly type: 'validation';
  readonly update: number;
  /** Mean over the supervised tokens. */
  readonly loss: number;
  readonly supervised: number;
  /** Whether none before was lower. */
  readonly best: boolean;
  readonly seconds: number;
}

/** The score of one task of `validation.tasks`, as `patina eval` would give it to the model as it is after `update`. */
export interface ScoreEvent {
  readonly type: 'score';
  /** 0 for the model before its first update. */
  readonly update: number;
  /** Of the curve. */
  readonly name: string;
  readonly task: string;
  readonly harness: string;
  readonly score: number;
  /** At 95 %. */
  readonly interval: readonly [low: number, high: number];
  readonly intervalMethod: 'wilson' | 'bootstrap';
  /** Questions. */
  readonly n: number;
  readonly metrics: Readonly<Record<string, number>>;
  readonly categories: Readonly<Record<string, Readonly<Record<string, number>>>>;
  /** Whether it is higher than all after an update before it; false before the first one. */
  readonly best: boolean;
  /** File of the answers, in LLaVA's format. */
  readonly answers: string;
  /** Most questions that were answered at once on each rank: fewer than the recipe says where memory did not suffice for these. */
  readonly rows: number;
  readonly seconds: number;
  /** Most bytes in tensors at once meanwhile, of the first rank: weights and optimizer, and what answering takes. */
  readonly peakBytes: number;
}

export interface ProbeAnswer {
  readonly question: string;
  readonly images: readonly string[];
  readonly answer: string;
}

/** What the model answers to the recipe's probe questions. */
export interface ProbesEvent {
  readonly type: 'probes';
  /** 0 for the answers before the first update; a run that goes on tells them again. */
  readonly update: number;
  readonly answers: readonly ProbeAnswer[];
}

export interface CheckpointEvent {
  readonly type: 'checkpoint';
  readonly update: number;
  readonly path: string;
  readonly bytes: number;
  readonly seconds: number;
}

/** Where the time of the profiled updates went, the last of which is `update`; each rank tells its own. */
export interface ProfileEvent extends StepProfile {
  readonly type: 'profile';
  readonly update: number;
  /** File in the Trace Event Format, gzipped. */
  readonly trace: string;
}

export interface WarningEvent {
  readonly type: 'warning';
  readonly update: number;
  /** Stable, as in errors; of what is odd about records and format the kind that `patina show` names. */
  readonly code: string;
  readonly message: string;
  /** The first record of its kind. */
  readonly record?: RecordPlace & { readonly id: RecordId };
}

/** Why an update went wrong, found by running it again. */
export interface DiagnosisEvent {
  readonly type: 'diagnosis';
  readonly update: number;
  /** One of the words of docs/causes; `unknown` where the evidence does not decide. */
  readonly cause: string;
  /** 0 to 1. */
  readonly confidence: number;
  readonly message: string;
  /** What was seen, a sentence each, what was excluded too. */
  readonly evidence: readonly string[];
  /** The change to make. */
  readonly fix: string;
  /** Records that it is about. */
  readonly records: readonly GuardedRecord[];
  /** Module whose output, or gradient, was the first not to be finite. */
  readonly module: string | null;
  /** Rank on which it was, where there are several. */
  readonly rank: number | null;
  /** Page about the cause. */
  readonly page: string;
}

/** A record by where it stands. */
export interface GuardedRecord {
  readonly source: string;
  /** On which it begins; in files without lines its number. */
  readonly line: number;
  /** Its number in the file, from 1: an array of JSON may have all of its records on one line. */
  readonly record: number;
  readonly id: RecordId;
}

/** What a run did to get past a bad update. */
export interface RecoveryEvent {
  readonly type: 'recovery';
  readonly update: number;
  readonly action: 'leave-out' | 'quarantine' | 'roll-back' | 'stop';
  readonly message: string;
  /** Records that are left out from now on. */
  readonly records: readonly GuardedRecord[];
  /** Bad updates that may still be answered. */
  readonly budgetLeft: number;
}

/** What a run did after an update that memory did not suffice for: that update again, in smaller micro-batches, and so from then on. */
export interface SmallerBatchesEvent {
  readonly type: 'recovery';
  readonly update: number;
  readonly action: 'halve';
  readonly message: string;
  readonly microBatch: {
    /** What a micro-batch holds at most is told in these, as in the recipe. */
    readonly unit: 'records' | 'tokens';
    readonly before: number;
    readonly after: number;
  };
  /** Bytes in tensors when there were no more, and by plan; `null` where nobody planned. */
  readonly memory: { readonly allocated: number; readonly predicted: number | null };
  /**
   * Which part of the plan was passed, by more: of what outlasts an update (weights, masters, optimizer), or of what an update adds;
   * `null` where neither was, or nobody planned.
   */
  readonly overshot: 'lasting' | 'update' | null;
  /** Ranks whose memory did not suffice, where there are several; `memory` and `overshot` are of the first of them. */
  readonly ranks?: readonly number[];
}

/** A record that is not trained on, each time it comes. */
export interface BadRecordEvent {
  readonly type: 'bad-record';
  readonly update: number;
  readonly record: RejectedRecord;
}

/**
 * - `finished`: all planned updates are done.
 * - `early-stopped`: the validation loss has not fallen for `validation.patience` validations.
 * - `max-updates`: as many updates are done as were asked for; the run can go on.
 * - `interrupted`: the signal was raised; the run can go on.
 * - `dry-run`: nothing was to be trained.
 */
export type EndReason = 'finished' | 'early-stopped' | 'max-updates' | 'interrupted' | 'dry-run';

export interface EndEvent {
  readonly type: 'end';
  readonly reason: EndReason;
  readonly update: number;
  readonly run: string | null;
  /** The last checkpoint, where there is one. */
  readonly checkpoint: string | null;
  readonly loss: number | null;
  readonly validationLoss: number | null;
  /** The last score of each task, by name. */
  readonly scores: Readonly<Record<string, number>>;
  /** Updates that were skipped since their gradient was not finite. */
  readonly skipped: number;
  /** Records that were left out. */
  readonly badRecords: number;
  /** How many records were odd, by the kind of their warning, each time they came. */
  readonly warnings: Readonly<Record<string, number>>;
  readonly seconds: number;
}

/** Peaks of a device, bytes. */
export interface MemoryPeaks {
  /** In tensors. */
  readonly allocated: number;
  /** Taken from the device. */
  readonly reserved: number;
}

/** The same, and what of the device is taken with the context and what libraries hold, as `nvidia-smi` shows it; absent on the CPU. */
export interface ProcessPeaks extends MemoryPeaks {
  readonly total?: number;
}

/** What the planner says that the heaviest update of a run takes, beside what was measured; comes before the end, unless the run is interrupted. */
export interface MemoryEvent {
  readonly type: 'memory';
  /** `null` where it could not be found out, for the reason in `note`. */
  readonly predicted: ProcessPeaks | null;
  /** Of the first rank, since the run began or went on; `total` is of all that uses its device. */
  readonly measured: ProcessPeaks;
  /** Of a typical update; absent where the planner has no times for the device, or too few updates went on undisturbed. */
  readonly seconds?: {
    readonly predicted: number;
    readonly measured: number;
    /** Runs before this one by which it was predicted; absent where the planner has none. */
    readonly earlierRuns?: number;
  };
  /** What to know when comparing them. */
  readonly note?: string;
}

/** What a look at the first records and the recipe has found, before the first update. */
export interface FindingEvent {
  readonly type: 'finding';
  /** One of the guard's words. */
  readonly cause: string;
  /** `error`: the run will stop, leave something out, or learn what is wrong. `warning`: it may be meant so. */
  readonly severity: 'error' | 'warning';
  readonly message: string;
  /** What to do. */
  readonly fix: string;
  /** Of the first record; a file of the model, or the recipe, where it is not about records; else null. */
  readonly source: string | null;
  readonly line: number | null;
  readonly id: RecordId;
  /** Records, or tensors, or 1. */
  readonly count: number;
}

export type TrainEvent =
  | LoadingEvent
  | StartEvent
  | FindingEvent
  | UpdateEvent
  | ValidationEvent
  | ScoreEvent
  | ProbesEvent
  | CheckpointEvent
  | ProfileEvent
  | WarningEvent
  | BadRecordEvent
  | DiagnosisEvent
  | RecoveryEvent
  | SmallerBatchesEvent
  | MemoryEvent
  | EndEvent;
