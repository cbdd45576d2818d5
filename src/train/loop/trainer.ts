/**
 * The loop of a run: updates from the data, validation, probe questions, checkpoints; everything that happens comes as an event.
 *
 * An update's numbers may come one update late: wherever the loop looks at the model (validation, probes, a checkpoint, the end) it waits
 * for them first.
 */

import { EnvironmentError, NonFiniteError, OutOfMemoryError } from '../../base/errors.js';
import type { EffectiveBatch, Recipe } from '../../config/index.js';
import type { Dataset, DataWarning, Place, UpdateData } from '../../data/index.js';
import { together } from '../../parallel/index.js';
import { resetPeak } from '../../torch/index.js';
import type { EndEvent, EndReason, TrainEvent } from '../events.js';
import type { Guard } from './guard.js';
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
import type { UpdateSetup } from '../step/update.js';
import { courseOf, describeChange, planRest, type RunPlan } from '../prepare/run-plan.js';
import { describeShares } from '../prepare/shard-model.js';
import type { UpdateSetupParts } from '../prepare/run-setup.js';
import { Saving, type RunPlace } from './saving.js';
import { Tally, type Measured } from './tally.js';
import type { AskTask } from './tasks.js';
import type { RunTask } from '../prepare/open-tasks.js';
import { Agreement } from './agreement.js';
import { dealing } from './dealt-batches.js';
import { Looks, type Answer } from './looks.js';
import { Updates } from './updates.js';

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

export class Trainer {
  plan: RunPlan;
  private readonly updates: Updates;
  private readonly tally: Tally;
  private readonly saving: Saving;
  private readonly memory: RunMemory;
  private readonly pace = new Pace();
  private readonly looks: Looks;
  /** How many of the checkpoints that were asked for there are. */
  private wishes = 0;
  /** No checkpoint is half done. */
  private steady = true;

  constructor(private readonly parts: TrainerParts) {
    this.plan = parts.plan;
    this.saving = new Saving(parts);
    this.tally = new Tally(parts.told);
    this.memory = new RunMemory(parts);
    const { tally, memory, pace, saving } = this;
    const readsLate = (): boolean => this.readsLate;
    this.updates = new Updates(parts, { tally, memory, pace, saving, readsLate });
    this.looks = new Looks(parts, { tally, memory, store: () => this.setup.store });
  }

  /** Updates done. */
  get update(): number {
    return this.updates.done;
  }

  private get setup(): UpdateSetup {
    return this.updates.setup;
  }

  /** What is told of it before the first update. */
  get statements(): string[] {
    const { ranks, recipe, batching } = this.parts;
    const bytes = this.setup.store.bytes?.(batching.accumulate ?? Infinity);
    return [
      ...(bytes === undefined ? [] : [describeShares(bytes, { ...recipe, size: ranks.size })]),
      ...this.updates.rollBack.statements(this.setup),
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
    this.updates.done = update;
    this.updates.cursor = cursor;
    this.tally.restore(counters);
    this.tally.restoreMeasured({
      ...measured,
      update,
      scores: this.looks.stillAsked(measured.scores),
    });
    for (const each of counters.quarantine ?? []) this.updates.quarantine.add(each);
    if (counters.guard !== undefined) this.parts.guard?.restore(counters.guard);
    this.looks.restore(counters);
    this.saving.saved = { update, path };
    this.load(0); // refuses the place in other data now, before the run changes
    const standing = { update, place: cursor as Place, before };
    this.plan = planRest(this.parts.plan, standing, this.parts.data);
    this.updates.setup = { ...this.setup, schedule: courseOf(this.plan) };
    const change = describeChange(this.plan, standing);
    const sentences = [...describeParts(changed), ...converted];
    return [
      ...(change === undefined ? [] : [change]),
      ...sentences,
      ...(cut === undefined ? [] : this.memory.restore(cut)),
    ];
  }

  /** The next updates from where the run stands. @throws DataError `E_CURSOR` */
  private load(count: number, agreement?: Agreement): AsyncGenerator<UpdateData, void> {
    const { data, batching } = this.parts;
    const until = this.plan.until ?? undefined;
    const place = { from: this.updates.cursor, count, until };
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
      this.updates.startClock();
      for await (const next of this.load(Math.max(0, target - this.update), agreement)) {
        profiled?.begin(this.update);
        yield* this.updates.step(next, agreement.peaks);
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
    yield* this.updates.flush();
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
    this.updates.dispose();
  }

  /** Whether numbers are read one update late; a CPU has done its work by then. */
  get readsLate(): boolean {
    return this.setup.device.startsWith('cuda');
  }

  /** Ends the profile, if one runs, and tells of it. */
  private async *profile(profiled: ProfiledUpdates | null): AsyncGenerator<TrainEvent, void> {
    const event = await profiled?.end(this.update);
    if (event === undefined) return;
    yield* this.updates.flush();
    yield event;
    this.updates.startClock();
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
    yield* this.updates.flush();
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
    this.updates.startClock();
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
    const { setup, update, plan, tally } = this;
    const { cursor, quarantine } = this.updates;
    const guarded = { quarantine: quarantine.list, guard: this.parts.guard?.counters() };
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
    const steady = this.steady && this.updates.steady;
    if (!steady || this.update === 0 || UNSAVED.some((kind) => error instanceof kind)) return;
    if (!this.parts.ranks.endWith(error)) return; // nobody else would come to the checkpoint
    try {
      yield* this.updates.flush();
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

function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true && error === signal.reason;
}
