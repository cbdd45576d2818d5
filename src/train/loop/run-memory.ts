/** The memory of a run: what becomes of an update that it does not suffice for, and what was planned beside what was measured. */

import { OutOfMemoryError } from '../../base/errors.js';
import { toPlain, type PlainError } from '../../base/plain-error.js';
import type { Recipe } from '../../config/index.js';
import { microBatchOf, type UpdateData } from '../../data/index.js';
import { makeCommon } from '../../parallel/index.js';
import {
  bytesBeside,
  emptyCache,
  memoryStats,
  resetPeak,
  type ChosenDevice,
} from '../../torch/index.js';
import type { MemoryEvent, MemoryPeaks, ProcessPeaks, SmallerBatchesEvent } from '../events.js';
import type { PacedUpdate } from './pace.js';
import { RecordTooLargeError } from '../prepare/what-would-fit.js';
import type { Ranks } from '../run/ranks.js';
import { BatchCut, counted, type CutState } from './batch-cut.js';
import { Heaviest, heaviestOf, shapeOf, type UpdateShape } from './heaviest.js';
import { overshotOf, type DoneBetween, type Prediction, type TypicalUpdate } from './prediction.js';

export interface RunMemoryParts {
  readonly recipe: Recipe;
  readonly ranks: Pick<Ranks, 'rank' | 'size' | 'speaks' | 'gather'>;
  readonly device: ChosenDevice;
  readonly predict?: PredictUpdate | undefined;
}

/** What an update of these records takes. */
export type PredictUpdate = (batches: UpdateShape, done?: DoneInRun) => Promise<Prediction>;

/** What a prediction is to be for, beside an update. */
export interface DoneInRun {
  readonly between: DoneBetween;
  readonly typical: TypicalUpdate | null;
}

/** An update that memory did not suffice for. */
interface Failed {
  readonly update: number;
  /** The optimizer had begun. */
  readonly isApplying: boolean;
}

type Predicted =
  | { readonly prediction: Prediction; readonly why?: undefined }
  | { readonly prediction: null; readonly why: string };

export class RunMemory {
  private readonly batchCut: BatchCut;
  private readonly heaviest = new Heaviest();
  private readonly validated = new Heaviest();
  private asked = false;
  /** Of updates before something else was measured. */
  private before: MemoryPeaks = { allocated: 0, reserved: 0 };

  constructor(private readonly parts: RunMemoryParts) {
    const { batchTokens, batchSize = 1 } = parts.recipe;
    this.batchCut =
      batchTokens === undefined
        ? new BatchCut('records', batchSize)
        : new BatchCut('tokens', batchTokens);
  }

  /** Most bytes that updates have taken; what goes on beside them, see `apart`, does not count. */
  get peaks(): MemoryPeaks {
    const { peakAllocated, peakReserved } = memoryStats(this.parts.device.device);
    const { allocated, reserved } = this.before;
    return {
      allocated: Math.max(allocated, peakAllocated),
      reserved: Math.max(reserved, peakReserved),
    };
  }

  /**
   * Work beside updates that takes memory of its own, which it gives back.
   *
   * @returns what came of it, and the most bytes that were in tensors meanwhile
   */
  async apart<T>(work: () => Promise<T>): Promise<{ readonly result: T; peakBytes: number }> {
    const { device } = this.parts.device;
    this.before = this.peaks;
    resetPeak(device);
    try {
      const result = await work();
      return { result, peakBytes: memoryStats(device).peakAllocated };
    } finally {
      emptyCache(device);
      resetPeak(device);
    }
  }

  /** For a checkpoint. */
  get cut(): CutState | undefined {
    return this.batchCut.state;
  }

  /** @returns what that means, a sentence */
  restore(cut: CutState): string[] {
    return this.batchCut.restore(cut);
  }

  /** With micro-batches as small as memory has asked for so far, as many on each rank; all ranks call it. */
  async applyTo(data: UpdateData): Promise<UpdateData> {
    const { ranks } = this.parts;
    if (!this.batchCut.isCut) return data;
    const cut = this.batchCut.applyTo(data.microBatches);
    const counts = await ranks.gather('micro-batches of the update', cut.length);
    const missing = Math.max(...counts) - cut.length;
    const none = Array.from({ length: missing }, () => microBatchOf([]));
    return { ...data, microBatches: [...cut, ...none] };
  }

  /** An update that has gone through. */
  see({ microBatches }: UpdateData): void {
    this.heaviest.see(microBatches);
  }

  /** What is validated on. */
  seeValidation({ microBatches }: UpdateData): void {
    this.validated.see(microBatches);
  }

  /** Probes have been asked. */
  seeProbes(): void {
    this.asked = true;
  }

  /**
   * An update that an error has ended on this rank: whether it runs again in smaller micro-batches.
   *
   * @throws what ends the run, where that does not help
   */
  requireRepeatable(
    error: unknown,
    { update, isApplying }: Failed,
  ): asserts error is OutOfMemoryError {
    const { ranks, recipe } = this.parts;
    if (!(error instanceof OutOfMemoryError)) throw error;
    // The others are in the middle of the update, and wait for what this rank has no memory for.
    if (ranks.size > 1) throw tooLittle(error, { update, rank: ranks.rank });
    // Weights that have changed would change twice. Without sums of gradients there is one micro-batch.
    if (isApplying || recipe.optimizer.updateInBackward) throw error;
  }

  /**
   * Has micro-batches cut smaller after an update that memory did not suffice for, and that changed nothing; all ranks call it.
   *
   * @param error that this rank's memory ran out with; `null` where it sufficed
   * @returns what tells of it, once nothing of the update is left
   * @throws OutOfMemoryError where one record is too much, the same on all ranks
   */
  async halve(
    { microBatches }: UpdateData,
    error: OutOfMemoryError | null,
    update: number,
  ): Promise<{ event(): Promise<SmallerBatchesEvent> }> {
    const { ranks, device } = this.parts;
    const failure = error && toPlain(error);
    const own = { failure, largest: this.batchCut.largest(microBatches) };
    const told = await ranks.gather('micro-batches that memory did not suffice for', own);
    const short = told.flatMap((each, rank) => (each.failure === null ? [] : { ...each, rank }));
    const sizes = short.map(({ failure: cause, largest, rank }) => {
      if (largest !== null) return largest;
      throw makeCommon(tooLarge(cause!, { update, rank: ranks.size > 1 ? rank : null, error }));
    });
    const halved = this.batchCut.halve(Math.max(...sizes));
    emptyCache(device.device);
    const who = { short: short.map(({ rank }) => rank), shape: shapeOf(microBatches) };
    return { event: () => this.halvedEvent(update, halved, who) };
  }

  private async halvedEvent(
    update: number,
    halved: { readonly before: number; readonly after: number },
    { short, shape }: { readonly short: readonly number[]; readonly shape: UpdateShape },
  ): Promise<SmallerBatchesEvent> {
    const { device, ranks } = this.parts;
    const { allocated, peakAllocated } = memoryStats(device.device);
    const told = await ranks.gather('memory of the update', { allocated, peakAllocated, shape });
    const first = told[short[0]!]!;
    const { prediction } = await this.predicted(ranks.speaks ? first.shape : []);
    const { unit } = this.batchCut;
    const measured = { allocated: first.peakAllocated, lasting: first.allocated };
    const where = ranks.size === 1 ? '' : ` of ${named(short)}`;
    return {
      type: 'recovery',
      update,
      action: 'halve',
      message:
        `memory${where} did not suffice for ${counted(halved.before, unit)} in a micro-batch; ` +
        `the update runs again with ${halved.after} at most, and so do those after it`,
      microBatch: { unit, ...halved },
      memory: { allocated: measured.allocated, predicted: prediction?.allocated ?? null },
      overshot: prediction === null ? null : overshotOf(prediction, measured),
      ...(ranks.size > 1 && { ranks: short }),
    };
  }

  /**
   * Predicted beside measured, by the rank that speaks, where somebody plans.
   *
   * @param typical an update whose time is predicted too
   */
  async *told(typical: PacedUpdate | null = null): AsyncGenerator<MemoryEvent, void> {
    const { device, ranks, predict } = this.parts;
    if (predict === undefined || !ranks.speaks) return;
    const { allocated, reserved } = this.peaks;
    const beside = bytesBeside(device.device);
    const between = { validation: heaviestOf(this.validated.shape), asked: this.asked };
    const { prediction, why } = await this.predicted(this.heaviest.shape, { between, typical });
    const note =
      why ?? (device.device === 'cpu' ? 'on the CPU only tensors count, not mapped files' : null);
    yield {
      type: 'memory',
      predicted: prediction && peaksOf(prediction),
      measured: { allocated, reserved, ...(beside !== null && { total: reserved + beside }) },
      ...(typical !== null && prediction !== null && paceOf(prediction, typical)),
      ...(note !== null && { note }),
    };
  }

  /** What was predicted for an update of these records, or why nothing was. */
  private async predicted(batches: UpdateShape, done?: DoneInRun): Promise<Predicted> {
    const { predict } = this.parts;
    if (predict === undefined) return { prediction: null, why: 'nobody planned' };
    if (batches.length === 0) return { prediction: null, why: 'no update was run' };
    try {
      return { prediction: await predict(batches, done) };
    } catch (error) {
      // A plan that fails must not end what it is for.
      return { prediction: null, why: error instanceof Error ? error.message : String(error) };
    }
  }
}

function paceOf(
  { seconds: predicted, earlierRuns }: Prediction,
  { seconds: measured }: PacedUpdate,
): Pick<MemoryEvent, 'seconds'> {
  if (predicted === undefined) return {};
  return { seconds: { predicted, measured, ...(earlierRuns !== undefined && { earlierRuns }) } };
}

function peaksOf({ allocated, reserved, total }: Prediction): ProcessPeaks {
  return { allocated, reserved, ...(total !== undefined && { total }) };
}

/** What ends all ranks where one record of this one is too much. */
function tooLarge(
  { message, typed }: PlainError,
  { update, rank, error: cause }: { update: number; rank: number | null; error: unknown },
): RecordTooLargeError {
  const where = rank === null ? '' : ` on rank ${rank}`;
  const what = `Update ${update} does not fit${where} with one record in each micro-batch: ${message}`;
  const { code, hint } = typed!;
  return new RecordTooLargeError(what, { code, hint, cause });
}

/** What ends a rank that could not go on with an update. */
function tooLittle(
  cause: OutOfMemoryError,
  { update, rank }: { update: number; rank: number },
): OutOfMemoryError {
  const { message, code, hint } = cause;
  const what = `Memory of rank ${rank} did not suffice in update ${update}, and the other ranks are in the middle of it: ${message}`;
  return new OutOfMemoryError(what, { code, hint, cause });
}

function named(ranks: readonly number[]): string {
  return `${ranks.length === 1 ? 'rank' : 'ranks'} ${ranks.join(', ')}`;
}
