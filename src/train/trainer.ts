/**
 * The loop of a run: updates from the data, validation, probe questions, checkpoints; everything that happens comes as an event.
 *
 * On a GPU an update's numbers are read one update late, so that the device always has work; wherever the loop looks at the
 * model (validation, probes, a checkpoint, the end) it waits for them first.
 */

import { NonFiniteError } from '../base/errors.js';
import type { EffectiveBatch, Recipe } from '../config/index.js';
import type { Dataset, UpdateData } from '../data/index.js';
import { makeBatch, type Batch, type SegmentedModel } from '../models/index.js';
import { AdamW, LossScale, schedule, type Schedule } from '../optim/index.js';
import {
  full,
  hold,
  memoryStats,
  noGrad,
  resetPeak,
  scope,
  type Holding,
  type Tensor,
} from '../torch/index.js';
import type { ChosenDevice } from './device-choice.js';
import { drive } from './drive.js';
import { EarlyStopping } from './early-stopping.js';
import { evaluate } from './evaluate.js';
import type {
  CheckpointEvent,
  EndEvent,
  EndReason,
  ProbesEvent,
  TrainEvent,
  UpdateEvent,
  ValidationEvent,
  WarningEvent,
} from './events.js';
import { memoryPolicies } from './memory-policy.js';
import type { ChosenPrecision } from './precision.js';
import { Randomness } from './randomness.js';
import { pruneCheckpoints, writeCheckpoint, type Checkpoint } from './run/checkpoints.js';
import type { RunFolder } from './run/run-folder.js';
import type { Trainable } from './trainable.js';
import type { TrainedWeights } from './trained-weights.js';
import { optimizerBytes, readTrainerState, writeTrainerState } from './trainer-state.js';
import { runUpdate, type UpdateResult, type UpdateSetup } from './update.js';

/** What the loop needs of a data set. */
export type TrainingData = Pick<
  Dataset,
  'recordsPerEpoch' | 'validationRecords' | 'updatesPerEpoch' | 'updates' | 'validation'
>;

export type Question = Recipe['probes']['questions'][number];

/** Answers a question with the model as it is now. */
export type Answer = (
  question: Question,
  options: { maxNewTokens: number; signal?: AbortSignal | undefined },
) => Promise<string>;

export interface TrainerParts {
  readonly recipe: Recipe;
  readonly batching: EffectiveBatch;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  readonly model: SegmentedModel;
  readonly trainable: Trainable;
  readonly weights: TrainedWeights;
  readonly data: TrainingData;
  /** Normalises pictures that come as bytes. */
  readonly normaliseTable?: Float32Array | undefined;
  /** Needed where the recipe has probe questions. */
  readonly answer?: Answer | undefined;
}

/** Where checkpoints go, and who is told how the run stands. */
export type RunPlace = Pick<RunFolder, 'path' | 'checkpoints' | 'setState'>;

export interface RunOptions {
  /** Raised once: finish the update, save, end. */
  signal?: AbortSignal | undefined;
  /** Stop once so many updates are done, with a checkpoint. */
  maxUpdates?: number | undefined;
}

export interface Plan {
  readonly perEpoch: number;
  readonly planned: number;
  readonly warmup: number;
}

/** How many updates a recipe makes of its data. */
export function planRun(
  { schedule: { updates, epochs, warmupUpdates, warmupRatio }, batchSize }: Recipe,
  { accumulate }: Pick<EffectiveBatch, 'accumulate'>,
  data: Pick<TrainingData, 'updatesPerEpoch'>,
): Plan {
  const perEpoch = data.updatesPerEpoch({ batchSize, accumulate });
  const planned = updates ?? Math.max(1, Math.ceil(epochs * perEpoch));
  return { perEpoch, planned, warmup: warmupUpdates ?? Math.ceil(warmupRatio * planned) };
}

/** Updates in a row whose gradient is not finite, after which a run ends. */
const NON_FINITE_LIMIT = 5;
/** fp16 sums the losses of many tokens: kept small, they leave its range to the loss scale. */
const FP16_POWER = -10;

/** An update whose numbers are still on their way. */
interface Pending {
  readonly result: UpdateResult;
  readonly data: UpdateData;
}

export class Trainer {
  readonly plan: Plan;
  /** Updates done. */
  update = 0;
  private readonly optimizer: AdamW;
  private readonly lossScale: LossScale | undefined;
  private readonly randomness: Randomness;
  private readonly rate: Schedule;
  private readonly setup: UpdateSetup;
  private readonly stopping: EarlyStopping;
  private cursor: unknown;
  private pending: Pending | null = null;
  private mark = 0;
  private skipped = 0;
  private skippedInRow = 0;
  private badRecords = 0;
  private loss: number | null = null;
  private validated: { update: number; loss: number } | null = null;
  private saved: { update: number; path: string } | null = null;
  private stopEarly = false;

  constructor(private readonly parts: TrainerParts) {
    const { recipe, batching, device, precision, model, trainable, data } = parts;
    const { optimizer, memory, validation } = recipe;
    this.plan = planRun(recipe, batching, data);
    this.optimizer = new AdamW(trainable.groups, {
      betas: optimizer.betas,
      eps: optimizer.epsilon,
      master: precision.master,
      states: precision.states,
    });
    this.lossScale = precision.scaled
      ? new LossScale(device.device, recipe.precision.lossScale)
      : undefined;
    this.randomness = new Randomness(recipe.seed, device.device);
    this.rate = schedule({
      shape: recipe.schedule.decay,
      updates: this.plan.planned,
      warmup: this.plan.warmup,
      floor: recipe.schedule.finalRatio,
    });
    this.stopping = new EarlyStopping(validation?.patience, validation?.minimumImprovement);
    this.setup = {
      model,
      device: device.device,
      policies: memoryPolicies(model.segments, {
        policy: memory.policy,
        keep: Math.min(memory.keepBlocks, model.segments.length),
      }),
      chunk: memory.lossChunk,
      optimizer: this.optimizer,
      schedule: this.rate,
      randomness: this.randomness,
      clipNorm: optimizer.clipNorm,
      updateInBackward: optimizer.updateInBackward,
      ...(this.lossScale !== undefined && { lossScale: this.lossScale, power: FP16_POWER }),
    };
  }

  /** Bytes of one checkpoint. */
  get checkpointBytes(): number {
    const { optimizer, lossScale } = this;
    return this.parts.weights.bytes + optimizerBytes({ optimizer, lossScale });
  }

  /** Goes on from a checkpoint. @throws DataError where it does not fit */
  async restore({ path }: Pick<Checkpoint, 'path'>): Promise<void> {
    await this.parts.weights.read(path);
    const counters = await readTrainerState(path, {
      optimizer: this.optimizer,
      lossScale: this.lossScale,
    });
    this.update = counters.update;
    this.cursor = counters.cursor;
    this.skipped = counters.skipped;
    this.badRecords = counters.badRecords;
    this.stopping.restore(counters.validation);
    this.saved = { update: counters.update, path };
  }

  /**
   * Trains to the end, or until the signal is raised.
   *
   * @throws NonFiniteError `E_NON_FINITE`; OutOfMemoryError; DataError of the data; EnvironmentError where nothing can be
   *   written
   */
  async *run(
    place: RunPlace,
    { signal, maxUpdates = Infinity }: RunOptions = {},
  ): AsyncGenerator<TrainEvent, void> {
    const { data, recipe, batching, device } = this.parts;
    const begun = performance.now();
    const target = Math.min(this.plan.planned, maxUpdates);
    resetPeak(device.device);
    try {
      if (this.update === 0) yield* this.probe(signal);
      this.mark = performance.now();
      const updates = data.updates({
        batchSize: recipe.batchSize,
        accumulate: batching.accumulate,
        from: this.cursor,
        count: Math.max(0, target - this.update),
        signal,
      });
      for await (const next of updates) {
        yield* this.step(next);
        yield* this.regularly(place, signal, target);
        if (this.stopEarly || signal?.aborted === true) break;
      }
    } catch (error) {
      if (!isAbort(error, signal)) throw error;
    }
    yield* this.flush();
    const reason = this.endReason(signal);
    if (this.saved?.update !== this.update && this.update > 0) yield await this.checkpoint(place);
    yield this.end(place, reason, (performance.now() - begun) / 1000);
  }

  dispose(): void {
    this.pending?.result.numbers.dispose();
    this.pending = null;
    this.optimizer.dispose();
    this.lossScale?.dispose();
    this.randomness.dispose();
  }

  /** One update; its event, or that of the one before. */
  private async *step(data: UpdateData): AsyncGenerator<TrainEvent, void> {
    for (const record of data.rejected) {
      this.badRecords++;
      yield { type: 'bad-record', update: this.update + 1, record };
    }
    using batches = this.batches(data);
    const result = await drive(runUpdate(this.setup, this.update, batches.value));
    this.update++;
    this.cursor = data.cursor;
    const before = this.pending;
    this.pending = { result, data };
    if (before !== null) yield* this.report(before);
    // A CPU has done its work by now.
    if (!this.setup.device.startsWith('cuda')) yield* this.flush();
  }

  private batches(data: UpdateData): Holding<Batch[]> {
    const { model, device, normaliseTable } = this.parts;
    const options = {
      device: device.device,
      ...(normaliseTable !== undefined && { normaliseTable }),
    };
    const filled = data.microBatches.filter(({ samples }) => samples.length > 0);
    return hold(() =>
      noGrad(() => filled.map(({ samples }) => makeBatch(samples, model.input, options))),
    );
  }

  /** Waits for the numbers of the last update. */
  private *flush(): Generator<TrainEvent, void> {
    const last = this.pending;
    this.pending = null;
    if (last !== null) yield* this.report(last);
  }

  private *report({ result, data }: Pending): Generator<TrainEvent, void> {
    const { recipe, batching, device } = this.parts;
    const numbers = result.numbers.read();
    const now = performance.now();
    const seconds = (now - this.mark) / 1000;
    this.mark = now;
    const update = result.update + 1;
    const loss = result.supervised === 0 ? null : numbers.lossSum / result.supervised;
    const skipped = numbers.foundInf > 0;
    this.loss = loss ?? this.loss;
    this.skipped += Number(skipped);
    this.skippedInRow = skipped ? this.skippedInRow + 1 : 0;
    const { peakReserved } = memoryStats(device.device);
    const event: UpdateEvent = {
      type: 'update',
      update,
      epoch: data.epoch,
      loss,
      gradientNorm: numbers.gradientNorm,
      learningRate: recipe.optimizer.learningRate * batching.learningRateScale * result.rate,
      counts: data.counts,
      seconds,
      tokensPerSecond: data.counts.tokens / seconds,
      samplesPerSecond: data.counts.sequences / seconds,
      waiting: Math.min(1, data.waitedMs / 1000 / seconds),
      memory: { peakBytes: peakReserved, totalBytes: device.totalBytes },
      skipped,
      lossScale: this.lossScale === undefined ? null : numbers.lossScale,
    };
    yield event;
    if (loss === null) yield unsupervised(update);
    this.refuseNonFinite(event);
  }

  /** A scaled loss has to fall first: only at the smallest scale is the gradient itself at fault. */
  private refuseNonFinite({ update, lossScale, loss }: UpdateEvent): void {
    if (this.skippedInRow < NON_FINITE_LIMIT) return;
    if (lossScale !== null && lossScale > this.parts.recipe.precision.lossScale.minimum) return;
    throw new NonFiniteError(
      `The gradient was not finite in ${this.skippedInRow} updates in a row, the last of them update ${update} ` +
        `with a loss of ${loss ?? 'none'}. Weights are as they were before these updates.`,
      {
        code: 'E_NON_FINITE',
        hint: 'Lower the learning rate, train in bf16 or fp32, or look for a broken picture or weight in the records of these updates.',
      },
    );
  }

  /** What is due after an update: numbers first, then validation, probes, a checkpoint. */
  private async *regularly(
    place: RunPlace,
    signal: AbortSignal | undefined,
    target: number,
  ): AsyncGenerator<TrainEvent, void> {
    const { validation, probes, checkpoints } = this.parts.recipe;
    const last = this.update === target;
    const due = (every: number | undefined): boolean =>
      every !== undefined && (last || this.update % every === 0);
    const validates = this.parts.data.validationRecords > 0 && due(validation?.everyUpdates);
    const asks = probes.questions.length > 0 && due(probes.everyUpdates);
    let saves = due(checkpoints.everyUpdates);
    if (!validates && !asks && !saves) return;
    yield* this.flush();
    if (validates && signal?.aborted !== true) {
      const event = await this.validate(signal);
      saves ||= event.best && checkpoints.keepBest;
      yield event;
    }
    if (asks && signal?.aborted !== true) yield* this.probe(signal);
    if (saves) yield await this.checkpoint(place);
    this.mark = performance.now();
  }

  private async validate(signal: AbortSignal | undefined): Promise<ValidationEvent> {
    const { recipe, data, model, device } = this.parts;
    const begun = performance.now();
    const sum: Tensor = full([], 0, { dtype: 'float32', device: device.device }).keep();
    let supervised = 0;
    try {
      for await (const part of data.validation({ batchSize: recipe.batchSize, signal })) {
        using batches = this.batches(part);
        for (const batch of batches.value) {
          const losses = await drive(evaluate(model, batch, recipe.memory.lossChunk));
          noGrad(() => scope(() => sum.add_(losses.sum(null))));
          losses.dispose();
          supervised += batch.counts.supervised;
        }
      }
      const loss = sum.item() / supervised;
      this.validated = { update: this.update, loss };
      const best = this.stopping.add(loss);
      this.stopEarly = this.stopping.exhausted;
      const seconds = (performance.now() - begun) / 1000;
      return { type: 'validation', update: this.update, loss, supervised, best, seconds };
    } finally {
      sum.dispose();
    }
  }

  private async *probe(signal: AbortSignal | undefined): AsyncGenerator<ProbesEvent, void> {
    const { answer, recipe } = this.parts;
    const { questions, maxNewTokens } = recipe.probes;
    if (answer === undefined || questions.length === 0) return;
    const answers = [];
    for (const question of questions) {
      signal?.throwIfAborted();
      const text = await answer(question, { maxNewTokens, signal });
      answers.push({ question: question.text, images: question.images, answer: text });
    }
    yield { type: 'probes', update: this.update, answers };
  }

  private async checkpoint(run: RunPlace): Promise<CheckpointEvent> {
    const { weights, recipe } = this.parts;
    const { update, optimizer, lossScale, cursor, skipped, badRecords } = this;
    const begun = performance.now();
    const { path, bytes } = await writeCheckpoint(run.checkpoints, {
      update,
      validationLoss: this.validated?.update === update ? this.validated.loss : undefined,
      write: async (folder) => {
        await weights.write(folder);
        const validation = this.stopping.state();
        const { planned } = this.plan;
        const counters = { update, planned, cursor, validation, skipped, badRecords };
        await writeTrainerState(folder, { optimizer, lossScale }, counters);
      },
    });
    this.saved = { update, path };
    await pruneCheckpoints(run.checkpoints, recipe.checkpoints);
    await run.setState('running', { updates: update, plannedUpdates: this.plan.planned });
    const seconds = (performance.now() - begun) / 1000;
    return { type: 'checkpoint', update, path, bytes, seconds };
  }

  private endReason(signal: AbortSignal | undefined): EndReason {
    if (this.stopEarly) return 'early-stopped';
    if (this.update >= this.plan.planned) return 'finished';
    return signal?.aborted === true ? 'interrupted' : 'max-updates';
  }

  private end({ path }: RunPlace, reason: EndReason, seconds: number): EndEvent {
    const { update, skipped, badRecords, loss } = this;
    return {
      type: 'end',
      reason,
      update,
      run: path,
      checkpoint: this.saved?.path ?? null,
      loss,
      validationLoss: this.validated?.loss ?? null,
      skipped,
      badRecords,
      seconds,
    };
  }
}

function isAbort(error: unknown, signal: AbortSignal | undefined): boolean {
  return signal?.aborted === true && error === signal.reason;
}

function unsupervised(update: number): WarningEvent {
  return {
    type: 'warning',
    update,
    code: 'E_NO_SUPERVISION',
    message: `update ${update} had no token to learn: its gradient is 0`,
  };
}
