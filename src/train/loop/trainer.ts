/**
 * The loop of a run: updates from the data, validation, probe questions, checkpoints; everything that happens comes as an event.
 *
 * On a GPU an update's numbers are read one update late, so that the device always has work; wherever the loop looks at the
 * model (validation, probes, a checkpoint, the end) it waits for them first.
 */

import { EnvironmentError, NonFiniteError, OutOfMemoryError } from '../../base/errors.js';
import type { EffectiveBatch, Recipe } from '../../config/index.js';
import type { Dataset, DataWarning, LoadedSample, Place, UpdateData } from '../../data/index.js';
import { drive, makeBatch, type Batch } from '../../models/index.js';
import { together } from '../../parallel/index.js';
import { hold, noGrad, resetPeak, type Holding, type Tensor } from '../../torch/index.js';
import type { DiagnosisEvent, EndEvent, EndReason, TrainEvent, WarningEvent } from '../events.js';
import type { Guard, Scene, SeenUpdate, Verdict } from './guard.js';
import { Quarantine } from './quarantine.js';
import { RollBack } from './roll-back.js';
import { NonFiniteWatch } from './non-finite-watch.js';
import {
  describeParts,
  partChanges,
  type PartChanges,
  trainsWith,
} from '../checkpoint/frozen-parts.js';
import type { Checkpoint } from '../checkpoint/checkpoints.js';
import type { Ranks } from '../run/ranks.js';
import { Pace } from './pace.js';
import { RunMemory, type PredictUpdate } from './run-memory.js';
import type { TrainedWeights } from '../checkpoint/trained-weights.js';
import { readTrainerState, stateParts } from '../checkpoint/trainer-state.js';
import { ProfiledUpdates } from '../profile/profiled-updates.js';
import { updateRange } from '../profile/ranges.js';
import { updateEvent } from './update-event.js';
import { ofRanks } from '../step/parameter-store.js';
import { ENDS } from '../step/shortage.js';
import { runUpdate, type UpdateResult, type UpdateSetup } from '../step/update.js';
import { courseOf, describeChange, planRest, type RunPlan } from '../prepare/run-plan.js';
import { describeShares } from '../prepare/shard-model.js';
import { makeUpdateSetup, type UpdateSetupParts } from '../prepare/run-setup.js';
import { Saving, type RunPlace } from './saving.js';
import { Tally, type Measured } from './tally.js';
import type { AskTask } from './tasks.js';
import type { RunTask } from '../prepare/open-tasks.js';
import { Agreement } from './agreement.js';
import { dealing, placedBatches } from './dealt-batches.js';
import { Looks, type Answer } from './looks.js';

/** What the loop needs of a data set. */
export type TrainingData = Pick<
  Dataset,
  'recordsPerEpoch' | 'validationRecords' | 'updates' | 'validation'
>;

export interface TrainerParts extends UpdateSetupParts {
  readonly batching: EffectiveBatch;
  readonly weights: TrainedWeights;
  readonly data: TrainingData;
  readonly ranks: Ranks;
  /** Needed where the recipe has probe questions. */
  readonly answer?: Answer | undefined;
  /** What is asked at each validation. @default nothing */
  readonly tasks?: { readonly list: readonly RunTask[]; readonly ask: AskTask } | undefined;
  /** Watches updates and answers bad ones. @default bad ones are left out */
  readonly guard?: Guard | undefined;
  /** What memory an update should take. @default nobody tells */
  readonly predict?: PredictUpdate | undefined;
  /** Kinds of warnings about records that are told before the first update. */
  readonly told?: readonly DataWarning[] | undefined;
}

export interface RunOptions {
  /** Raised once: finish the update, save, end. */
  signal?: AbortSignal | undefined;
  /** Stop once so many updates are done, with a checkpoint. */
  maxUpdates?: number | undefined;
  /** Profile so many updates after the first few, and tell where their time went. @default none */
  profile?: number | undefined;
  /** How many times a checkpoint was asked for; each is written after the update that is under way. @default never */
  savesWished?: (() => number) | undefined;
}

/** An update whose numbers are still on their way. */
interface Pending {
  readonly result: UpdateResult;
  readonly data: UpdateData;
  readonly peaks: readonly number[];
  /** Copies of the state of the loss scale before it. */
  readonly scale: readonly Tensor[];
  /** What memory of this rank ran out with, of several: the update is left out on all of them. */
  readonly shortage: OutOfMemoryError | null;
}

export class Trainer {
  plan: RunPlan;
  /** Updates done. */
  update = 0;
  private setup: UpdateSetup;
  private readonly nonFinite: NonFiniteWatch;
  private cursor: unknown;
  private pending: Pending | null = null;
  private mark = 0;
  private readonly tally: Tally;
  private readonly saving: Saving;
  private readonly quarantine: Quarantine;
  private readonly rollBack: RollBack;
  private readonly memory: RunMemory;
  private readonly pace = new Pace();
  private readonly looks: Looks;
  /** Records of the last update that came out well. */
  private control: readonly LoadedSample[] = [];
  /** How many of the checkpoints that were asked for there are. */
  private wishes = 0;
  /** Nothing is half done, neither an update nor a checkpoint. */
  private steady = true;

  constructor(private readonly parts: TrainerParts) {
    const { precision } = parts.recipe;
    this.plan = parts.plan;
    this.saving = new Saving(parts);
    this.tally = new Tally(parts.told);
    this.setup = makeUpdateSetup(parts);
    this.nonFinite = new NonFiniteWatch(precision.lossScale.minimum);
    this.quarantine = new Quarantine(parts.recipe.guard.quarantine);
    this.rollBack = new RollBack(parts, this.saving);
    this.memory = new RunMemory(parts);
    const { tally, memory } = this;
    this.looks = new Looks(parts, { tally, memory, store: () => this.setup.store });
  }

  /** What is told of it before the first update. */
  get statements(): string[] {
    const { ranks, recipe, batching } = this.parts;
    const bytes = this.setup.store.bytes?.(batching.accumulate ?? Infinity);
    return [
      ...(bytes === undefined ? [] : [describeShares(bytes, { ...recipe, size: ranks.size })]),
      ...this.rollBack.statements(this.setup),
    ];
  }

  /** Bytes of one checkpoint, of all ranks; every rank asks. */
  checkpointBytes(): Promise<number> {
    return this.saving.bytes(this.setup);
  }

  /**
   * Goes on from a checkpoint.
   *
   * @returns what changes for the run, in sentences
   * @throws DataError where it does not fit
   */
  async resume({
    path,
    ...measured
  }: Pick<Checkpoint, 'path'> & Omit<Measured, 'update'>): Promise<string[]> {
    const { model, trainable, weights } = this.parts;
    const { peers } = this.saving;
    let changed!: PartChanges;
    // What may fail on one rank alone comes before what all of them read together.
    await together(peers, 'weights of the checkpoint', async () => {
      changed = await partChanges(model, path, trainable.parameters.keys());
      await weights.read(path, this.setup.store.weights(), changed);
      this.setup.store.weightsRead();
    });
    const state = stateParts(this.setup, peers);
    const counters = await readTrainerState(path, state, peers, {
      isFrozen: (name) => changed.frozen.has(trainsWith(model, name)!),
      isThawed: (name) => changed.thawed.has(trainsWith(model, name)!),
    });
    const { update, cursor, plan: before, converted, cut } = counters;
    this.update = update;
    this.cursor = cursor;
    this.tally.restore(counters);
    this.tally.restoreMeasured({
      ...measured,
      update,
      scores: this.looks.stillAsked(measured.scores),
    });
    for (const each of counters.quarantine ?? []) this.quarantine.add(each);
    if (counters.guard !== undefined) this.parts.guard?.restore(counters.guard);
    this.looks.restore(counters);
    this.saving.saved = { update, path };
    this.updates(0); // refuses the place in other data now, before the run changes
    const standing = { update, place: cursor as Place, before };
    this.plan = planRest(this.parts.plan, standing, this.parts.data);
    this.setup = { ...this.setup, schedule: courseOf(this.plan) };
    const change = describeChange(this.plan, standing);
    const sentences = [...describeParts(changed), ...converted];
    return [
      ...(change === undefined ? [] : [change]),
      ...sentences,
      ...(cut === undefined ? [] : this.memory.restore(cut)),
    ];
  }

  /** The next updates from where the run stands. @throws DataError `E_CURSOR` */
  private updates(count: number, agreement?: Agreement): AsyncGenerator<UpdateData, void> {
    const { data, batching } = this.parts;
    const until = this.plan.until ?? undefined;
    const place = { from: this.cursor, count, until };
    return data.updates({ ...dealing(this.parts, agreement, batching.accumulate ?? 1), ...place });
  }

  /**
   * Trains to the end, or until the signal is raised. What ends it between two updates, such as a bad record, loses none of them:
   * a checkpoint comes first.
   *
   * @throws NonFiniteError `E_NON_FINITE`; OutOfMemoryError; DataError of the data; EnvironmentError where nothing can be
   *   written
   */
  async *run(
    place: RunPlace,
    { signal, maxUpdates = Infinity, profile: count, savesWished }: RunOptions = {},
  ): AsyncGenerator<TrainEvent, void> {
    const { device } = this.parts.device;
    const begun = performance.now();
    const target = Math.min(this.plan.planned, maxUpdates);
    const agreement = new Agreement(this.parts.ranks, {
      signal,
      peakBytes: () => this.memory.peaks.reserved,
      saved: () => this.saving.ended,
      wished: savesWished,
    });
    const { rank } = this.parts.ranks;
    const profiling = { target, device, rank, done: this.update, run: place.path };
    using profiled = count === undefined ? null : new ProfiledUpdates({ count, ...profiling });
    resetPeak(device);
    try {
      yield* this.parts.guard?.begin(this.parts.model) ?? [];
      if (this.update === 0) {
        yield* this.looks.probe(this.update, agreement);
        this.looks.oweTasks();
      }
      if (this.looks.owes) yield* this.begin(place, agreement);
      this.mark = performance.now();
      for await (const next of this.updates(Math.max(0, target - this.update), agreement)) {
        profiled?.begin(this.update);
        yield* this.step(next, agreement.peaks);
        if (profiled?.isFull(this.update) === true) yield* this.profile(profiled);
        // On all ranks after the same update.
        if (agreement.saved === this.saving.begun) yield* this.committed();
        yield* this.regularly(place, agreement, target);
        if (this.looks.areExhausted || agreement.signal?.aborted === true) break;
      }
    } catch (error) {
      if (!isAbort(error, agreement.signal)) {
        const diagnosis = this.parts.guard?.explain(error, this.update + 1);
        if (diagnosis != null) yield diagnosis;
        yield* this.saveBefore(error, place);
        throw error;
      }
    } finally {
      await this.saving.settle();
    }
    yield* this.profile(profiled);
    yield* this.flush();
    const reason = this.endReason(agreement.signal);
    yield* this.saveLast(place);
    const end = this.end(place, reason, (performance.now() - begun) / 1000);
    // Who interrupts a run does not wait for a plan.
    // Updates that are profiled take longer.
    if (reason !== 'interrupted') {
      yield* this.memory.told(profiled === null ? this.pace.typical : null);
    }
    yield end;
  }

  dispose(): void {
    if (this.pending !== null) drop(this.pending);
    this.pending = null;
    this.rollBack.dispose();
    this.setup.store.dispose();
    this.setup.lossScale?.dispose();
    this.setup.clip?.dispose();
  }

  /** One update; its event, or that of the one before. */
  private async *step(
    data: UpdateData,
    peaks: readonly number[],
  ): AsyncGenerator<TrainEvent, void> {
    for (const record of data.rejected) {
      yield { type: 'bad-record', update: this.update + 1, record };
    }
    yield* this.tally.addRecords(data, this.update + 1);
    await this.rollBack.prepare(this.setup, this.update);
    yield* this.attempt(data, peaks);
  }

  /** Whether numbers are read one update late; a CPU has done its work by then. */
  get readsLate(): boolean {
    return this.setup.device.startsWith('cuda');
  }

  /** Runs an update as quarantine leaves it, and tells of it or of the one before. */
  private async *attempt(
    whole: UpdateData,
    peaks: readonly number[],
  ): AsyncGenerator<TrainEvent, void> {
    const data = await this.memory.applyTo(await this.quarantine.applyTo(whole, this.parts.ranks));
    const { lossScale } = this.setup;
    const scale = noGrad(() =>
      [...(lossScale?.state().values() ?? [])].map((each) => each.clone().keep()),
    );
    let result: UpdateResult;
    try {
      result = await this.queue(data);
    } catch (error) {
      freed(scale)[Symbol.dispose]();
      const update = this.update + 1;
      const { isApplying } = this.setup.store;
      this.memory.requireRepeatable(error, { update, isApplying });
      const smaller = await this.memory.halve(data, error, update);
      this.steady = true;
      yield* this.flush();
      yield await smaller.event();
      yield* this.attempt(whole, peaks);
      return;
    }
    this.update++;
    this.cursor = data.cursor;
    this.steady = true;
    const before = this.pending;
    const shortage = this.setup.shortage?.error ?? null;
    this.pending = { result, data, peaks, scale, shortage };
    if (before !== null) yield* this.report(before);
    if (!this.readsLate) yield* this.flush();
  }

  /** Queues an update; on a CPU it is done. */
  private async queue(data: UpdateData): Promise<UpdateResult> {
    const { store, shortage = ENDS } = this.setup;
    store.isApplying = false;
    shortage.begin();
    using _ = updateRange(this.update);
    using batches = shortage.try(() => placedBatches(this.parts, data), noBatches(data));
    this.steady = false;
    const { supervised, images } = data.counts;
    const facts = { supervised, pictures: images > 0 };
    return await drive(runUpdate(this.setup, this.update, batches.value, facts));
  }

  /** Ends the profile, if one runs, and tells of it. */
  private async *profile(profiled: ProfiledUpdates | null): AsyncGenerator<TrainEvent, void> {
    const event = await profiled?.end(this.update);
    if (event === undefined) return;
    yield* this.flush();
    yield event;
    this.mark = performance.now();
  }

  /** Waits for the numbers of the last update. */
  private async *flush(): AsyncGenerator<TrainEvent, void> {
    // A bad one may be run again.
    while (this.pending !== null) {
      const last = this.pending;
      this.pending = null;
      yield* this.report(last);
    }
  }

  private async *report(pending: Pending): AsyncGenerator<TrainEvent, void> {
    using _ = freed(pending.scale);
    const { result, data, peaks } = pending;
    const { recipe, batching, device, guard } = this.parts;
    const numbers = result.numbers.read();
    if (ofRanks(numbers.byRank, 'ranOut').some((flag) => flag > 0)) {
      yield* this.again(pending);
      return;
    }
    this.memory.see(data);
    const now = performance.now();
    const event = updateEvent({
      ...{ result, numbers, data, device, peaks },
      budget: recipe.batchTokens,
      seconds: (now - this.mark) / 1000,
      peakRate: recipe.optimizer.learningRate * batching.learningRateScale,
      scaled: this.setup.lossScale !== undefined,
      peakBytes: this.memory.peaks.reserved,
    });
    this.mark = now;
    this.pace.see(event, data);
    this.tally.addUpdate(event);
    yield event;
    if (event.loss === null) yield unsupervised(event.update);
    const seen: SeenUpdate = { event, numbers, tensorNames: result.tensorNames };
    if (!event.skipped) this.control = someOf(data);
    const later = event.skipped ? await this.reopen() : null;
    const verdict = guard?.see(seen) === true ? await guard.examine(this.scene(seen, data)) : null;
    if (verdict?.diagnosis != null) yield verdict.diagnosis;
    if (verdict?.action !== 'quarantine') this.nonFinite.add(event, verdict?.diagnosis);
    if (verdict !== null) yield* this.answer(verdict, pending);
    if (later !== null) {
      this.update = later.result.update;
      yield* this.attempt(later.data, later.peaks);
    }
  }

  /** An update that memory of some ranks did not suffice for, again in smaller micro-batches, and what was given to the device since. */
  private async *again(short: Pending): AsyncGenerator<TrainEvent, void> {
    const { result, data, peaks, shortage } = short;
    const later = await this.reopen();
    const smaller = await this.memory.halve(data, shortage, result.update + 1);
    yield await smaller.event();
    this.update = result.update;
    this.restoreScale(short);
    yield* this.attempt(data, peaks);
    if (later === null) return;
    this.update = later.result.update;
    yield* this.attempt(later.data, later.peaks);
  }

  /**
   * Lets updates through again after a bad one. What was given to the device since found the gate shut and is as if it had not been.
   *
   * @returns that, to be run again
   */
  private async reopen(): Promise<Pending | null> {
    const { gate, store } = this.setup;
    const later = this.pending;
    this.pending = null;
    await store.settle();
    if (later !== null) {
      this.restoreScale(later);
      drop(later);
    }
    gate?.open();
    return later;
  }

  /** The loss scale as it was before an update. */
  private restoreScale({ scale }: Pending): void {
    const state = [...(this.setup.lossScale?.state().values() ?? [])];
    noGrad(() => state.forEach((each, i) => each.copy_(scale[i]!)));
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
    const { data, peaks, result } = bad;
    const update = result.update + 1;
    yield { type: 'recovery', update, action, message, records, budgetLeft };
    switch (action) {
      case 'leave-out':
        return;
      case 'stop':
        throw stopped(update, message, diagnosis);
      case 'quarantine':
        for (const record of records) this.quarantine.add(record);
        this.update = result.update;
        this.restoreScale(bad);
        yield* this.attempt(data, peaks);
        return;
      case 'roll-back':
        await this.rollBack.goBack(this.setup);
    }
  }

  /** What is due after an update: numbers first, then validation, probes, a checkpoint. */
  private async *regularly(
    place: RunPlace,
    agreement: Agreement,
    target: number,
  ): AsyncGenerator<TrainEvent, void> {
    const { recipe, data } = this.parts;
    const { probes, checkpoints, validation } = recipe;
    const { looks, update } = this;
    const due = (every: number | undefined): boolean =>
      every !== undefined && (update === target || update % every === 0);
    const looksNow = due(validation?.everyUpdates);
    const validates = looksNow && data.validationRecords > 0;
    if (looksNow) looks.oweTasks();
    const asks = probes.questions.length > 0 && due(probes.everyUpdates);
    const { wished } = agreement;
    let saves = due(checkpoints.everyUpdates) || wished > this.wishes;
    this.wishes = wished;
    if (!validates && !looks.owes && !asks && !saves) return;
    yield* this.flush();
    await agreement.settle();
    const { signal } = agreement;
    if (validates && signal?.aborted !== true) {
      const event = await looks.validate(update, agreement);
      saves ||= event.best && checkpoints.keepBest && validation?.best === undefined;
      yield event;
    }
    for await (const event of looks.askTasks(update, place, agreement)) {
      saves ||= event.best && checkpoints.keepBest && validation?.best === event.name;
      yield event;
    }
    if (asks && signal?.aborted !== true) yield* looks.probe(update, agreement);
    if (saves) yield* this.checkpoint(place, checkpoints);
    this.mark = performance.now();
  }

  /** Asks the tasks that come before the first update, or that the run was interrupted at. */
  private async *begin(place: RunPlace, agreement: Agreement): AsyncGenerator<TrainEvent, void> {
    yield* this.looks.askTasks(this.update, place, agreement);
    // The checkpoint that there is has no scores of them.
    if (this.update > 0) yield* this.checkpoint(place, { background: false });
  }

  /** Begins to write a checkpoint once the one before is there; in the background from copies, else until it is there itself. */
  private async *checkpoint(
    run: RunPlace,
    { background }: Pick<Recipe['checkpoints'], 'background'>,
  ): AsyncGenerator<TrainEvent, void> {
    yield* this.committed();
    await this.setup.store.settle();
    const { setup, update, cursor, plan, tally } = this;
    const guarded = { quarantine: this.quarantine.list, guard: this.parts.guard?.counters() };
    const { cut } = this.memory;
    const counters = {
      ...{ update, plan, cursor, cut },
      ...{ ...tally.counters, ...this.looks.state(), ...guarded },
    };
    const validationLoss = tally.validationLoss(update);
    const standing = { setup, counters, validationLoss, scores: tally.scores(update) };
    this.saving.begin(run, standing, { copied: background });
    if (!background) yield* this.committed();
  }

  /** Waits for the checkpoint that is being written, if one is, and tells of it. */
  private async *committed(): AsyncGenerator<TrainEvent, void> {
    this.steady = false;
    const event = await this.saving.take();
    this.steady = true;
    if (event !== undefined) yield event;
  }

  /** A checkpoint of how the run ends, unless there is one. */
  private async *saveLast(place: RunPlace): AsyncGenerator<TrainEvent, void> {
    yield* this.committed();
    if (this.update === 0 || this.saving.saved?.update === this.update) return;
    // Nothing trains meanwhile that a copy would be for.
    yield* this.checkpoint(place, { background: false });
  }

  /** A checkpoint for a run that an error ends, unless there is one or should be none. */
  private async *saveBefore(error: unknown, place: RunPlace): AsyncGenerator<TrainEvent, void> {
    if (!this.steady || this.update === 0 || UNSAVED.some((kind) => error instanceof kind)) return;
    if (!this.parts.ranks.endWith(error)) return; // nobody else would come to the checkpoint
    try {
      yield* this.flush();
      yield* this.saveLast(place);
    } catch {
      // The last updates are not finite, or the device or the disk fails. What ends the run says more than that it was not saved.
    }
  }

  private endReason(signal: AbortSignal | undefined): EndReason {
    if (this.looks.areExhausted) return 'early-stopped';
    if (this.update >= this.plan.planned) return 'finished';
    return signal?.aborted === true ? 'interrupted' : 'max-updates';
  }

  private end({ path }: RunPlace, reason: EndReason, seconds: number): EndEvent {
    const { update, tally } = this;
    const { saved } = this.saving;
    return {
      ...{ type: 'end', reason, update, run: path, checkpoint: saved?.path ?? null, seconds },
      ...tally.end,
    };
  }
}

/** After these there is no memory or disk for a checkpoint, or no weights that are worth one. */
const UNSAVED = [OutOfMemoryError, EnvironmentError, NonFiniteError];

/** Frees what an update holds that is not reported. */
function drop({ result, scale }: Pending): void {
  result.numbers.dispose();
  freed(scale)[Symbol.dispose]();
}

/** Of an update that memory does not suffice for even to begin. */
function noBatches({ microBatches }: UpdateData): Holding<(Batch | null)[]> {
  return hold(() => microBatches.map(() => null));
}

function freed(tensors: readonly Tensor[]): Disposable {
  return {
    [Symbol.dispose]() {
      for (const each of tensors) each.dispose();
    },
  };
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

function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true && error === signal.reason;
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
