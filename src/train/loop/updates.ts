/**
 * The updates of a run, one after the other: each is given to the device, its numbers are read and told, and a bad one is answered: left
 * out, run again without its records that are in quarantine, followed by a roll-back, or run again in smaller micro-batches.
 *
 * On a GPU an update's numbers are read one update late, so that the device always has work: when one turns out bad, the next has been
 * given to the device already. It found the gate shut, and is run again.
 */

import { NonFiniteError, type OutOfMemoryError } from '../../base/errors.js';
import type { LoadedSample, UpdateData } from '../../data/index.js';
import { drive, makeBatch, type Batch } from '../../models/index.js';
import { hold, noGrad, type Holding } from '../../torch/index.js';
import type { DiagnosisEvent, TrainEvent, WarningEvent } from '../events.js';
import { makeUpdateSetup } from '../prepare/run-setup.js';
import { updateRange } from '../profile/ranges.js';
import { ofRanks } from '../step/parameter-store.js';
import { ENDS } from '../step/shortage.js';
import { runUpdate, type UpdateResult, type UpdateSetup } from '../step/update.js';
import { placedBatches } from './dealt-batches.js';
import type { Scene, SeenUpdate, Verdict } from './guard.js';
import { NonFiniteWatch } from './non-finite-watch.js';
import { Quarantine } from './quarantine.js';
import { RollBack } from './roll-back.js';
import type { RunMemory } from './run-memory.js';
import type { Saving } from './saving.js';
import { ScaleCopy } from './scale-copy.js';
import type { Pace } from './pace.js';
import type { Tally } from './tally.js';
import type { TrainerParts } from './trainer.js';
import { updateEvent } from './update-event.js';

interface Beside {
  readonly tally: Tally;
  readonly pace: Pace;
  readonly memory: RunMemory;
  readonly saving: Saving;
  /** Whether numbers are read one update late. */
  readonly readsLate: () => boolean;
}

/** An update whose numbers are still on their way. */
interface Pending {
  readonly result: UpdateResult;
  readonly data: UpdateData;
  readonly peaks: readonly number[];
  /** Before it. */
  readonly scale: ScaleCopy;
  /** What memory of this rank ran out with, of several: the update is left out on all of them. */
  readonly shortage: OutOfMemoryError | null;
}

export class Updates {
  /** How many are done. */
  done = 0;
  /** Where the next begins in the data. */
  cursor: unknown;
  setup: UpdateSetup;
  /** No update is half done. */
  steady = true;
  readonly quarantine: Quarantine;
  readonly rollBack: RollBack;
  private readonly nonFinite: NonFiniteWatch;
  private pending: Pending | null = null;
  private mark = 0;
  /** Records of the last update that came out well. */
  private control: readonly LoadedSample[] = [];

  constructor(
    private readonly parts: TrainerParts,
    private readonly beside: Beside,
  ) {
    const { precision, guard } = parts.recipe;
    this.setup = makeUpdateSetup(parts);
    this.quarantine = new Quarantine(guard.quarantine);
    this.rollBack = new RollBack(parts, beside.saving);
    this.nonFinite = new NonFiniteWatch(precision.lossScale.minimum);
  }

  /** The next update takes its time from now on. */
  startClock(): void {
    this.mark = performance.now();
  }

  /** One update; its event, or that of the one before. */
  async *step(data: UpdateData, peaks: readonly number[]): AsyncGenerator<TrainEvent, void> {
    for (const record of data.rejected) {
      yield { type: 'bad-record', update: this.done + 1, record };
    }
    yield* this.beside.tally.addRecords(data, this.done + 1);
    await this.rollBack.prepare(this.setup, this.done);
    yield* this.attempt(data, peaks);
  }

  /** Runs an update as quarantine leaves it, and tells of it or of the one before. */
  private async *attempt(
    whole: UpdateData,
    peaks: readonly number[],
  ): AsyncGenerator<TrainEvent, void> {
    const data = await this.beside.memory.applyTo(
      await this.quarantine.applyTo(whole, this.parts.ranks),
    );
    const scale = new ScaleCopy(this.setup.lossScale);
    let result: UpdateResult;
    try {
      result = await this.queue(data);
    } catch (error) {
      scale[Symbol.dispose]();
      const update = this.done + 1;
      const { isApplying } = this.setup.store;
      this.beside.memory.requireRepeatable(error, { update, isApplying });
      const smaller = await this.beside.memory.halve(data, error, update);
      this.steady = true;
      yield* this.flush();
      yield await smaller.event();
      yield* this.attempt(whole, peaks);
      return;
    }
    this.done++;
    this.cursor = data.cursor;
    this.steady = true;
    const before = this.pending;
    const shortage = this.setup.shortage?.error ?? null;
    this.pending = { result, data, peaks, scale, shortage };
    if (before !== null) yield* this.report(before);
    if (!this.beside.readsLate()) yield* this.flush();
  }

  /** Queues an update; on a CPU it is done. */
  private async queue(data: UpdateData): Promise<UpdateResult> {
    const { store, shortage = ENDS } = this.setup;
    store.isApplying = false;
    shortage.begin();
    using _ = updateRange(this.done);
    using batches = shortage.try(() => placedBatches(this.parts, data), noBatches(data));
    this.steady = false;
    const { supervised, images } = data.counts;
    const facts = { supervised, pictures: images > 0 };
    return await drive(runUpdate(this.setup, this.done, batches.value, facts));
  }

  /** Waits for the numbers of the last update. */
  async *flush(): AsyncGenerator<TrainEvent, void> {
    // A bad one may be run again.
    while (this.pending !== null) {
      const last = this.pending;
      this.pending = null;
      yield* this.report(last);
    }
  }

  private async *report(pending: Pending): AsyncGenerator<TrainEvent, void> {
    using _ = pending.scale;
    const { result, data, peaks } = pending;
    const { recipe, batching, device, guard } = this.parts;
    const { memory, pace, tally } = this.beside;
    const numbers = result.numbers.read();
    if (ofRanks(numbers.byRank, 'ranOut').some((flag) => flag > 0)) {
      yield* this.repeatSmaller(pending);
      return;
    }
    memory.see(data);
    const now = performance.now();
    const event = updateEvent({
      ...{ result, numbers, data, device, peaks },
      budget: recipe.batchTokens,
      seconds: (now - this.mark) / 1000,
      peakRate: recipe.optimizer.learningRate * batching.learningRateScale,
      scaled: this.setup.lossScale !== undefined,
      peakBytes: memory.peaks.reserved,
    });
    this.mark = now;
    pace.see(event, data);
    tally.addUpdate(event);
    yield event;
    if (event.loss === null) yield unsupervised(event.update);
    const seen: SeenUpdate = { event, numbers, tensorNames: result.tensorNames };
    if (!event.skipped) this.control = someOf(data);
    const later = event.skipped ? await this.reopen() : null;
    const verdict = guard?.see(seen) === true ? await guard.examine(this.scene(seen, data)) : null;
    if (verdict?.diagnosis != null) yield verdict.diagnosis;
    if (verdict?.action !== 'quarantine') this.nonFinite.add(event, verdict?.diagnosis);
    if (verdict !== null) yield* this.answer(verdict, pending);
    if (later !== null) yield* this.runAgain(later);
  }

  /** Lets updates through again after a bad one. @returns the one that was given to the device since, as if it had not been */
  private async reopen(): Promise<Pending | null> {
    const { gate, store } = this.setup;
    const later = this.pending;
    this.pending = null;
    await store.settle();
    if (later !== null) {
      later.scale.putBack();
      drop(later);
    }
    gate?.open();
    return later;
  }

  /** An update that changed nothing. */
  private async *runAgain({ result, data, peaks }: Pending): AsyncGenerator<TrainEvent, void> {
    this.done = result.update;
    yield* this.attempt(data, peaks);
  }

  /** An update that memory of some ranks did not suffice for, and the one that was given to the device since. */
  private async *repeatSmaller(short: Pending): AsyncGenerator<TrainEvent, void> {
    const { result, data, shortage } = short;
    const later = await this.reopen();
    const smaller = await this.beside.memory.halve(data, shortage, result.update + 1);
    yield await smaller.event();
    short.scale.putBack();
    yield* this.runAgain(short);
    if (later !== null) yield* this.runAgain(later);
  }

  private scene(seen: SeenUpdate, data: UpdateData): Scene {
    const { recipe, model, precision, ranks, device } = this.parts;
    return {
      ...seen,
      ...{ recipe, model, setup: this.setup, precision, ranks },
      microBatches: data.microBatches.map(({ samples }) => samples),
      batch: (samples) =>
        hold(() =>
          samples.length === 0
            ? null
            : noGrad(() => makeBatch(samples, model.input, { device: device.device })),
        ),
      control: this.control,
      canRollBack: this.rollBack.isPossible,
    };
  }

  /** What a guard wants done about a bad update. */
  private async *answer(
    { action, diagnosis, message, records, budgetLeft }: Verdict,
    bad: Pending,
  ): AsyncGenerator<TrainEvent, void> {
    if (action === 'go-on') return;
    const update = bad.result.update + 1;
    yield { type: 'recovery', update, action, message, records, budgetLeft };
    switch (action) {
      case 'leave-out':
        return;
      case 'stop':
        throw stopped(update, message, diagnosis);
      case 'quarantine':
        for (const record of records) this.quarantine.add(record);
        bad.scale.putBack();
        yield* this.runAgain(bad);
        return;
      case 'roll-back':
        await this.rollBack.goBack(this.setup);
    }
  }

  dispose(): void {
    if (this.pending !== null) drop(this.pending);
    this.pending = null;
    this.rollBack.dispose();
    const { store, lossScale, clip } = this.setup;
    store.dispose();
    lossScale?.dispose();
    clip?.dispose();
  }
}

/** Frees what an update holds that is not reported. */
function drop({ result, scale }: Pending): void {
  result.numbers.dispose();
  scale[Symbol.dispose]();
}

/** Of an update that memory does not suffice for even to begin. */
function noBatches({ microBatches }: UpdateData): Holding<(Batch | null)[]> {
  return hold(() => microBatches.map(() => null));
}

function stopped(
  update: number,
  message: string,
  diagnosis: DiagnosisEvent | null,
): NonFiniteError {
  const found = diagnosis === null ? '' : ` ${diagnosis.cause}: ${diagnosis.message}`;
  return new NonFiniteError(`The run stops at update ${update}: ${message}${found}`, {
    code: 'E_NON_FINITE',
    hint: diagnosis?.fix ?? 'See the diagnoses before it.',
  });
}

/** Enough records to compare a bad one with. */
function someOf({ microBatches }: UpdateData): LoadedSample[] {
  return microBatches.flatMap(({ samples }) => samples).slice(0, 2);
}

function unsupervised(update: number): WarningEvent {
  return {
    type: 'warning',
    update,
    code: 'E_NO_SUPERVISION',
    message: `update ${update} had no token to learn: its gradient is 0`,
  };
}
