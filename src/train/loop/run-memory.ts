/** The memory of a run: what becomes of an update that it does not suffice for, and what was planned beside what was measured. */

import { OutOfMemoryError } from '../../base/errors.js';
import type { Recipe } from '../../config/index.js';
import type { UpdateData } from '../../data/index.js';
import { emptyCache, memoryStats, resetPeak, type ChosenDevice } from '../../torch/index.js';
import type { MemoryEvent, MemoryPeaks, SmallerBatchesEvent } from '../events.js';
import type { Ranks } from '../run/ranks.js';
import { BatchCut, counted, type CutState } from './batch-cut.js';
import { Heaviest, heaviestOf, shapeOf, type UpdateShape } from './heaviest.js';
import { overshotOf, type DoneBetween, type Prediction } from './prediction.js';

export interface RunMemoryParts {
  readonly recipe: Recipe;
  readonly ranks: Pick<Ranks, 'size' | 'speaks'>;
  readonly device: ChosenDevice;
  readonly predict?: PredictUpdate | undefined;
}

/** What an update of these records takes, and what was done between updates. */
export type PredictUpdate = (batches: UpdateShape, between?: DoneBetween) => Promise<Prediction>;

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

  /** With micro-batches as small as memory has asked for so far. */
  applyTo(data: UpdateData): UpdateData {
    return { ...data, microBatches: this.batchCut.applyTo(data.microBatches) };
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
   * Has micro-batches cut smaller after an update that memory did not suffice for, and that changed nothing.
   *
   * @returns what tells of it, once nothing of the update is left
   * @throws what ended the update, where that does not help
   */
  halve(
    { microBatches }: UpdateData,
    error: unknown,
    { update, isApplying }: Failed,
  ): { event(): Promise<SmallerBatchesEvent> } {
    const { ranks, recipe, device } = this.parts;
    // Other ranks are in the middle of the update; weights that have changed would change twice.
    const isOver = ranks.size > 1 || isApplying;
    if (!(error instanceof OutOfMemoryError) || isOver) throw error;
    // Without sums of gradients there is one micro-batch.
    if (recipe.optimizer.updateInBackward) throw error;
    const halved = this.batchCut.halve(microBatches);
    if (halved === null) throw tooLarge(error, update);
    emptyCache(device.device);
    return { event: () => this.halvedEvent(update, halved, shapeOf(microBatches)) };
  }

  private async halvedEvent(
    update: number,
    halved: { readonly before: number; readonly after: number },
    ran: UpdateShape,
  ): Promise<SmallerBatchesEvent> {
    const { allocated: lasting, peakAllocated: allocated } = memoryStats(this.parts.device.device);
    const { prediction } = await this.predicted(ran);
    const { unit } = this.batchCut;
    return {
      type: 'recovery',
      update,
      action: 'halve',
      message:
        `memory did not suffice for ${counted(halved.before, unit)} in a micro-batch; ` +
        `the update runs again with ${halved.after} at most, and so do those after it`,
      microBatch: { unit, ...halved },
      memory: { allocated, predicted: prediction?.allocated ?? null },
      overshot: prediction === null ? null : overshotOf(prediction, { allocated, lasting }),
    };
  }

  /** Predicted beside measured, by the rank that speaks, where somebody plans. */
  async *told(): AsyncGenerator<MemoryEvent, void> {
    const { device, ranks, predict } = this.parts;
    if (predict === undefined || !ranks.speaks) return;
    const { allocated, reserved } = this.peaks;
    const { prediction, why } = await this.predicted(this.heaviest.shape, {
      validation: heaviestOf(this.validated.shape),
      asked: this.asked,
    });
    const note =
      why ?? (device.device === 'cpu' ? 'on the CPU only tensors count, not mapped files' : null);
    yield {
      type: 'memory',
      predicted: prediction && { allocated: prediction.allocated, reserved: prediction.reserved },
      measured: { allocated, reserved },
      ...(note !== null && { note }),
    };
  }

  /** What was predicted for an update of these records, or why nothing was. */
  private async predicted(batches: UpdateShape, between?: DoneBetween): Promise<Predicted> {
    const { predict } = this.parts;
    if (predict === undefined) return { prediction: null, why: 'nobody planned' };
    if (batches.length === 0) return { prediction: null, why: 'no update was run' };
    try {
      return { prediction: await predict(batches, between) };
    } catch (error) {
      // A plan that fails must not end what it is for.
      return { prediction: null, why: error instanceof Error ? error.message : String(error) };
    }
  }
}

function tooLarge(cause: OutOfMemoryError, update: number): OutOfMemoryError {
  const { message, code, hint } = cause;
  const what = `Update ${update} does not fit with one record in each micro-batch: ${message}`;
  return new OutOfMemoryError(what, { code, hint, cause });
}
