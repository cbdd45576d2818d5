/**
 * `train(recipe)`: a whole run, from files to files, as a stream of typed events.
 *
 *     for await (const event of train(recipe, { signal })) console.log(event);
 *
 * Raising the signal once ends the run after the current update with a checkpoint and an `end` event; leaving the loop early
 * ends it without one.
 */

import { requireFree } from '../base/disk-space.js';
import { PatinaError } from '../base/errors.js';
import type { HubEvent } from '../base/hub/resolve.js';
import { checkRecipe, type Recipe, type RecipeInput } from '../config/index.js';
import { Conversation } from '../generate/index.js';
import { environmentFacts } from './run/environment.js';
import type {
  EndEvent,
  LoadingEvent,
  ProbesEvent,
  StartEvent,
  TrainEvent,
  WarningEvent,
} from './events.js';
import { Journal, type JournalOptions } from './run/journal.js';
import { WARNINGS } from '../data/index.js';
import { prepareRun, updatesOf, type PreparedRun } from './prepare/prepare-run.js';
import { scheduleWarnings } from './prepare/schedule-warnings.js';
import { listCheckpoints, newestWhole, type NewestWhole } from './checkpoint/checkpoints.js';
import { ofType, readEvents } from './run/logs.js';
import { RunFolder } from './run/run-folder.js';
import type { OpenedModel } from './prepare/open-model.js';
import { findAgain } from './run/find-again.js';
import { Trainer, type Answer, type RunOptions } from './loop/trainer.js';

export interface TrainOptions extends RunOptions {
  /** Do everything up to the first update, and make no run. @default false */
  dryRun?: boolean | undefined;
  /** Take models that a checkpoint or the run stands on also where they have changed. @default false */
  changedBase?: boolean | undefined;
  /** Is told how far downloads from the hub are. */
  onDownload?: ((event: HubEvent) => void) | undefined;
}

/**
 * Trains what a recipe says.
 *
 * @throws UsageError for a recipe that cannot be followed; DataError, EnvironmentError, OutOfMemoryError, NonFiniteError
 */
export async function* train(
  recipe: RecipeInput | Recipe,
  options: TrainOptions = {},
): AsyncGenerator<TrainEvent, void> {
  yield* runRecipe(checkRecipe(recipe), options);
}

export interface ResumeOptions extends TrainOptions {
  /** Assignments such as `schedule.epochs=2` over the recipe of the run, which they change from then on. */
  set?: readonly string[] | undefined;
}

/**
 * Goes on with the run in a folder, from its newest whole checkpoint. What goes wrong before the first update leaves the run as it
 * was.
 *
 * @throws what `train` throws; UsageError `E_NO_RUN`; EnvironmentError `E_RUN_IN_USE`; DataError `E_RUN_BROKEN`,
 *   `E_BASE_MISSING`, `E_BASE_CHANGED`, `E_CHECKPOINT_BROKEN` where every checkpoint is damaged, `E_CHECKPOINT_TENSORS` where they are of another recipe
 */
export async function* resumeRun(
  folder: string,
  { set = [], ...options }: ResumeOptions = {},
): AsyncGenerator<TrainEvent, void> {
  const run = await RunFolder.open(folder);
  try {
    const recipe = checkRecipe(await run.recipe(), { set, locate: `${folder}/recipe.json` });
    yield* runRecipe(recipe, options, run);
  } finally {
    run.close();
  }
}

async function* runRecipe(
  recipe: Recipe,
  { dryRun = false, signal, maxUpdates, onDownload, changedBase }: TrainOptions,
  existing?: RunFolder,
): AsyncGenerator<TrainEvent, void> {
  const opening = { signal, onDownload, changedBase };
  const found = existing && (await findAgain(existing.path, recipe, opening));
  const newest = existing && (yield* findCheckpoint(existing, signal));
  const checkpoint = newest?.checkpoint;
  const prepared = yield* prepareRun(recipe, { ...opening, found, checkpoint: checkpoint?.path });
  const closers: (() => unknown)[] = [() => prepared.close()];
  try {
    const { device } = prepared;
    const trainer = trainerOf(recipe, prepared);
    closers.push(() => trainer.dispose());
    const { keep, keepBest } = recipe.checkpoints;
    const there = existing === undefined ? 0 : (await listCheckpoints(existing.checkpoints)).length;
    // One more while it is written, before the oldest goes.
    const more = Math.max(1, keep + Number(keepBest) + 1 - there);
    const bytes = (await trainer.checkpointBytes()) * more;
    await requireFree(existing?.path ?? recipe.run.root, bytes, 'the checkpoints of the run');
    signal?.throwIfAborted();
    const changes = checkpoint === undefined ? [] : await trainer.resume(checkpoint);
    const { plan, update } = trainer;
    const start: StartEvent = {
      ...prepared.start,
      resumedFrom: update,
      statements: [...prepared.start.statements, ...changes],
      updates: updatesOf(plan),
    };
    const odd = [
      ...(newest?.damaged ?? []),
      ...prepared.oddFormat.map((code) => ({ code, message: WARNINGS[code] })),
      ...scheduleWarnings(plan, recipe, update),
    ];
    const warnings = odd.map(({ code, message }): WarningEvent => ({
      type: 'warning',
      update,
      code,
      message,
    }));
    if (dryRun) {
      yield start;
      yield* warnings;
      yield { ...NOTHING_TRAINED, update };
      return;
    }

    const run = existing ?? (await newRun(recipe, environmentFacts(device), plan.planned));
    if (existing === undefined) closers.push(() => run.close());
    else await existing.resume(recipe, plan.planned);
    await run.keepProvenance(prepared.saved.provenance(run.path));
    const journal = {
      tensorboard: recipe.run.tensorboard,
      resumedAfter: existing === undefined ? undefined : update,
    };
    const first = [{ ...start, run: run.path }, ...warnings];
    yield* follow(run, trainer, { first, journal, signal, maxUpdates });
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

interface FollowOptions extends RunOptions {
  /** What is told before the first update. */
  first: readonly (StartEvent | WarningEvent)[];
  journal: JournalOptions;
}

/** Trains, and keeps in the run's folder what happens and how it ends. */
async function* follow(
  run: RunFolder,
  trainer: Trainer,
  { first, journal: journalOptions, ...options }: FollowOptions,
): AsyncGenerator<TrainEvent, void> {
  let journal: Journal | undefined;
  let ended = false;
  try {
    journal = new Journal(run, journalOptions);
    for (const event of first) {
      journal.keep(event);
      yield event;
    }
    yield* await firstAnswers(run, trainer);
    for await (const event of trainer.run(run, options)) {
      journal.keep(event);
      if (event.type === 'end') {
        await endRun(run, event, trainer.plan.planned, options.signal?.reason);
        ended = true;
      }
      yield event;
    }
  } catch (error) {
    ended = true;
    await failRun(run, trainer.update, error);
    throw error;
  } finally {
    journal?.close();
    if (!ended) await run.setState('interrupted', { updates: trainer.update });
  }
}

function trainerOf(recipe: Recipe, prepared: PreparedRun): Trainer {
  const { opened, trainable, batching, device, precision, data, plan, saved } = prepared;
  return new Trainer({
    ...{ recipe, batching, device, precision, plan, trainable, data },
    model: opened.model,
    weights: saved.weights,
    answer: answerer(opened, recipe),
    told: prepared.oddFormat,
  });
}

function newRun(recipe: Recipe, environment: object, plannedUpdates: number): Promise<RunFolder> {
  const { root, name } = recipe.run;
  return RunFolder.create({
    recipe: recipe.name,
    resolved: recipe,
    environment,
    root,
    name,
    plannedUpdates,
  });
}

/** The checkpoint from which a run goes on, the newest one that is whole; none where there never was one. */
async function* findCheckpoint(
  { checkpoints }: RunFolder,
  signal: AbortSignal | undefined,
): AsyncGenerator<LoadingEvent, NewestWhole> {
  yield { type: 'loading', what: 'checking the checkpoint' };
  const newest = await newestWhole(checkpoints, signal);
  if (newest.checkpoint === undefined && newest.damaged[0] !== undefined) throw newest.damaged[0];
  return newest;
}

/** The answers before the first update of a run that goes on, for those who show them beside later ones. */
async function firstAnswers(run: RunFolder, { update }: Trainer): Promise<ProbesEvent[]> {
  return update === 0 ? [] : ofType(await readEvents(run.path), 'probes').slice(0, 1);
}

async function endRun(
  run: RunFolder,
  { reason, update }: EndEvent,
  planned: number,
  why: unknown,
): Promise<void> {
  const goesOn = reason === 'interrupted' || reason === 'max-updates';
  await run.setState(goesOn ? 'interrupted' : 'finished', {
    updates: update,
    plannedUpdates: planned,
    ...(reason === 'max-updates' && { reason: `stopped after ${update} updates, as asked for` }),
    // A signal that is raised without a reason has an AbortError, which says nothing.
    ...(reason === 'interrupted' &&
      why instanceof Error &&
      why.name !== 'AbortError' && { reason: why.message }),
    ...(reason === 'early-stopped' && { reason: 'the validation loss no longer fell' }),
  });
}

/** Says in the folder why the run ended, as far as its disk still takes it. */
async function failRun(run: RunFolder, update: number, error: unknown): Promise<void> {
  const { code = 'E_UNEXPECTED', hint } = error instanceof PatinaError ? error : {};
  const message = error instanceof Error ? error.message : String(error);
  const reason = message.split('\n')[0]!;
  const time = new Date().toISOString();
  try {
    await run.setState('failed', { updates: update, reason });
    run.events.write({ time, type: 'failed', update, code, reason: message, hint });
  } catch {
    // What ended the run says more than that it could not be written down.
  }
}

/** Each question on its own, with greedy answers. */
function answerer(chat: OpenedModel, { image: { reading } }: Recipe): Answer {
  return async (question, options) => {
    const conversation = new Conversation(chat, { system: chat.text.system, reading });
    for (const path of question.images) await conversation.show(path);
    let answer = '';
    for await (const piece of conversation.ask(question.text, options)) answer += piece;
    return answer;
  };
}

const NOTHING_TRAINED: EndEvent = {
  type: 'end',
  reason: 'dry-run',
  update: 0,
  run: null,
  checkpoint: null,
  loss: null,
  validationLoss: null,
  skipped: 0,
  badRecords: 0,
  warnings: {},
  seconds: 0,
};
