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
import { askAll, askInStep } from '../eval/ask.js';
import { Conversation } from '../generate/index.js';
import { environmentFacts } from './run/environment.js';
import type {
  EndEvent,
  FindingEvent,
  LoadingEvent,
  ProbesEvent,
  StartEvent,
  TrainEvent,
  WarningEvent,
} from './events.js';
import { Journal, type JournalOptions } from './run/journal.js';
import { WARNINGS } from '../data/index.js';
import { digestOf } from './prepare/open-tasks.js';
import { prepareRun, updatesOf, type PreparedRun } from './prepare/prepare-run.js';
import { probeShapes } from './prepare/probe-shapes.js';
import { withWhatWouldFit } from './prepare/what-would-fit.js';
import { pictureWarnings } from './prepare/picture-mode.js';
import { scheduleWarnings } from './prepare/schedule-warnings.js';
import { baseChanges } from './checkpoint/base-changes.js';
import { type Checkpoint, listCheckpoints, newestWhole } from './checkpoint/checkpoints.js';
import { ofType, readEvents } from './run/logs.js';
import { endRun, failRun } from './run/end-run.js';
import { type HeldRun, holdRun } from './run/held-run.js';
import { joinRanks, type Ranks } from './run/ranks.js';
import { aloneGroups, openRankGroups, type RankGroups } from './step/rank-groups.js';
import { readRunRecipe, RunFolder } from './run/run-folder.js';
import { isCommon, makeCommon, placeFromEnvironment, together } from '../parallel/index.js';
import type { OpenedModel } from './prepare/open-model.js';
import type { MakeGuard } from './loop/guard.js';
import type { Predict } from './loop/prediction.js';
import { findAgain } from './run/find-again.js';
import type { AskTask } from './loop/tasks.js';
import type { Answer } from './loop/looks.js';
import { Trainer, type RunOptions } from './loop/trainer.js';

/** Looks at what a run begins with, and tells what it finds. */
export type FirstLook = (
  recipe: Recipe,
  prepared: Pick<PreparedRun, 'opened' | 'data' | 'batching' | 'plan'>,
) => Promise<readonly FindingEvent[]>;

export interface TrainOptions extends RunOptions {
  /** Once model and data are open, where a run begins. @default nobody looks */
  firstLook?: FirstLook | undefined;
  /** Do everything up to the first update, and make no run. @default false */
  dryRun?: boolean | undefined;
  /** Take models that a checkpoint or the run stands on also where they have changed. @default false */
  changedBase?: boolean | undefined;
  /** Makes what watches updates and answers bad ones. @default bad ones are left out */
  guard?: MakeGuard | undefined;
  /** Plans what memory an update takes, for the end of the run to tell beside what was measured. @default nobody plans */
  predict?: Predict | undefined;
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
  const checked = checkRecipe(recipe);
  yield* withRanks(checked, options, (ranks) => runRecipe(checked, options, ranks));
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
  const stored = await readRunRecipe(folder);
  const recipe = checkRecipe(stored, { set, locate: `${folder}/recipe.json` });
  yield* withRanks(recipe, options, async function* (ranks) {
    const run = await holdRun(ranks, () => RunFolder.open(folder));
    try {
      yield* runRecipe(recipe, options, ranks, run);
    } finally {
      run.close();
    }
  });
}

/** Meets the other ranks, and leaves them when all is done, or with what ends this one. */
async function* withRanks(
  recipe: Recipe,
  { signal }: TrainOptions,
  run: (ranks: Ranks) => AsyncGenerator<TrainEvent, void>,
): AsyncGenerator<TrainEvent, void> {
  const place = placeFromEnvironment();
  const { worldSize, address, port } = place;
  if (worldSize > 1) {
    yield { type: 'loading', what: `meeting ${worldSize} ranks at ${address}:${port}` };
  }
  const ranks = await joinRanks(place, { device: recipe.device, signal });
  let end: unknown = new PatinaError('its run was left before its end', {
    code: 'E_LEFT',
    hint: 'Take all events of the run, or raise its signal.',
  });
  try {
    await ranks.requireSame('recipe', recipe);
    yield* run(ranks);
    end = undefined;
  } catch (error) {
    end = withWhatWouldFit(error, recipe, ranks.size);
    throw end;
  } finally {
    await ranks.close(end);
  }
}

async function* runRecipe(
  recipe: Recipe,
  options: TrainOptions,
  ranks: Ranks,
  existing?: HeldRun,
): AsyncGenerator<TrainEvent, void> {
  const { dryRun = false, signal, maxUpdates, profile, savesWished } = options;
  const closers: (() => unknown)[] = [];
  try {
    const { world } = ranks;
    const { parallel } = recipe;
    if (existing === undefined && !dryRun) {
      await ranks.first('place of the run', () => RunFolder.requirePlace(recipe.run));
    }
    const alone = parallel.offload === 'none' ? null : await aloneGroups();
    const groups =
      world === null ? alone : await openRankGroups(world, { ...parallel, stage: parallel.zero });
    const newest = existing && (yield* findCheckpoint(existing, ranks, signal));
    const steps = prepare(recipe, options, { ranks, groups, existing, newest, closers });
    const outcome = yield* settled(steps);
    const { prepared, trainer } = await agree(ranks, signal, outcome);
    await ranks.requireSame('model, or other data,', standsOn(prepared));
    const bytes = await trainer.checkpointBytes();
    await ranks.first('room for checkpoints', () => requireRoom(recipe, bytes, existing));
    const changes = await agree(ranks, signal, async () => {
      signal?.throwIfAborted();
      if (newest?.checkpoint === undefined) return [];
      const { path } = newest.checkpoint;
      const bases = await baseChanges(path, prepared.saved.provenance(''));
      return [...bases, ...(await trainer.resume(newest.checkpoint))];
    });
    const { plan, update } = trainer;
    const { model, pictures } = prepared.opened;
    const looks = existing === undefined && ranks.speaks ? options.firstLook : undefined;
    if (looks !== undefined) yield { type: 'loading', what: 'checking the first records' };
    const findings = (await looks?.(recipe, prepared)) ?? [];
    const start: StartEvent = {
      ...prepared.start,
      resumedFrom: update,
      statements: [...prepared.start.statements, ...trainer.statements, ...changes],
      updates: updatesOf(plan),
    };
    const odd = [
      ...(newest?.damaged ?? []),
      ...prepared.oddFormat.map((code) => ({ code, message: WARNINGS[code] })),
      ...pictureWarnings(model, pictures).map(({ code, message, fix }) => ({
        code,
        message: `${message}: ${fix}`,
      })),
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
      yield* findings;
      yield* warnings;
      yield { ...NOTHING_TRAINED, update };
      return;
    }

    const facts = environmentFacts(prepared.device);
    const run =
      existing ??
      (await holdRun(ranks, () => newRun(recipe, pictures, facts, plan.planned), { makes: true }));
    if (existing === undefined) closers.push(() => run.close());
    else await existing.resume(recipe, plan.planned);
    await run.keepProvenance(prepared.saved.provenance(run.path));
    const journal = {
      tensorboard: recipe.run.tensorboard,
      resumedAfter: existing === undefined ? undefined : update,
    };
    const first = [{ ...start, run: run.path }, ...findings, ...warnings];
    yield* follow(run, trainer, { first, journal, signal, maxUpdates, profile, savesWished });
  } finally {
    for (const close of closers.reverse()) await close();
  }
}

/** What a rank has found under the names of the recipe, wherever it lies: by digests. */
function standsOn({ saved, tasks }: PreparedRun): unknown {
  const { beneath, began, data } = saved.provenance('');
  const text = JSON.stringify(
    { beneath, began, data, tasks: tasks.map(digestOf) },
    (key, value: unknown) => (key === 'path' || key === 'near' ? undefined : value),
  );
  return JSON.parse(text);
}

interface Preparing {
  readonly ranks: Ranks;
  readonly groups: RankGroups | null;
  readonly existing: HeldRun | undefined;
  readonly newest: FoundCheckpoint | undefined;
  /** Gets what has to be closed, whatever comes of it. */
  readonly closers: (() => unknown)[];
}

/** Everything before the first update but the checkpoint; asks nothing of the other ranks, since on some of them it may fail. */
async function* prepare(
  recipe: Recipe,
  { signal, onDownload, changedBase, ...watching }: TrainOptions,
  { ranks, groups, existing, newest, closers }: Preparing,
): AsyncGenerator<LoadingEvent, { prepared: PreparedRun; trainer: Trainer }> {
  const opening = { signal, onDownload, changedBase };
  const found = existing && (await findAgain(existing.path, recipe, opening));
  const options = { ...opening, found, checkpoint: newest?.checkpoint?.path, ranks, groups };
  const prepared = yield* prepareRun(recipe, options);
  closers.push(() => prepared.close());
  const trainer = trainerOf(recipe, prepared, ranks, watching);
  closers.push(() => trainer.dispose());
  return { prepared, trainer };
}

/** Takes the steps, and gives what came of them: a function that returns or throws it. */
async function* settled<E, T>(steps: AsyncGenerator<E, T>): AsyncGenerator<E, () => T> {
  try {
    const result = yield* steps;
    return () => result;
  } catch (error) {
    return () => {
      throw error;
    };
  }
}

/** Something that may fail on some ranks, with which it then fails on all. */
async function agree<T>(
  ranks: Ranks,
  signal: AbortSignal | undefined,
  step: () => T | Promise<T>,
): Promise<T> {
  let own: { readonly result: T } | undefined;
  try {
    await together(ranks, 'preparation', async () => {
      own = { result: await step() };
    });
  } catch (error) {
    // All are told to stop, but one of them may have been first to hear it.
    throw isCommon(error) && signal?.aborted === true ? makeCommon(signal.reason) : error;
  }
  return own!.result;
}

/** @throws EnvironmentError `E_DISK_FULL` */
async function requireRoom(
  { checkpoints: { keep, keepBest }, run }: Recipe,
  bytes: number,
  existing: HeldRun | undefined,
): Promise<void> {
  const there = existing === undefined ? 0 : (await listCheckpoints(existing.checkpoints)).length;
  // One more while it is written, before the oldest goes.
  const more = Math.max(1, keep + Number(keepBest) + 1 - there);
  await requireFree(existing?.path ?? run.root, bytes * more, 'the checkpoints of the run');
}

interface FollowOptions extends RunOptions {
  /** What is told before the first update. */
  first: readonly (StartEvent | FindingEvent | WarningEvent)[];
  journal: JournalOptions;
}

/** Trains, and keeps in the run's folder what happens and how it ends. */
async function* follow(
  run: HeldRun,
  trainer: Trainer,
  { first, journal: journalOptions, ...options }: FollowOptions,
): AsyncGenerator<TrainEvent, void> {
  let journal: Journal | undefined;
  let ended = false;
  try {
    journal = run.folder === null ? undefined : new Journal(run.folder, journalOptions);
    for (const event of first) {
      journal?.keep(event);
      yield event;
    }
    yield* await firstAnswers(run, trainer);
    for await (const event of trainer.run(run, options)) {
      journal?.keep(event);
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

function trainerOf(
  recipe: Recipe,
  prepared: PreparedRun,
  ranks: Ranks,
  { guard: makeGuard, predict }: Pick<TrainOptions, 'guard' | 'predict'>,
): Trainer {
  const { opened, trainable, batching, device, precision, data, plan, saved, sharding, tasks } =
    prepared;
  return new Trainer({
    ...{ recipe, batching, device, precision, plan, trainable, sharding, data, ranks },
    model: opened.model,
    weights: saved.weights,
    answer: answerer(opened, recipe),
    tasks: { list: tasks, ask: taskAsker(opened, recipe) },
    guard: makeGuard?.(recipe),
    told: prepared.oddFormat,
    predict:
      predict &&
      ((batches, done) =>
        predict({
          ...{ recipe, model: opened.model, device, precision, ranks: ranks.size, batches },
          between: done && {
            validation: done.between.validation,
            probes: done.between.asked
              ? probeShapes(opened, recipe, opened.text.system ?? opened.system)
              : [],
            isBeneath: opened.isBeneath,
          },
          typical: done?.typical ?? undefined,
        })),
  });
}

/** Whatever becomes of the model's files, the run goes on with pictures as they were. */
function newRun(
  recipe: Recipe,
  pictures: OpenedModel['pictures'],
  environment: object,
  plannedUpdates: number,
): Promise<RunFolder> {
  const { root, name } = recipe.run;
  const image = { ...recipe.image, ...(pictures && { mode: pictures.mode }) };
  return RunFolder.create({
    recipe: recipe.name,
    resolved: { ...recipe, image },
    environment,
    root,
    name,
    plannedUpdates,
  });
}

/** What is told of the search for a checkpoint; plain. */
interface FoundCheckpoint {
  readonly checkpoint: Checkpoint | undefined;
  /** Newer ones that are damaged. */
  readonly damaged: readonly Pick<PatinaError, 'code' | 'message'>[];
}

/** The checkpoint from which a run goes on, the newest one that is whole; none where there never was one. */
async function* findCheckpoint(
  { checkpoints }: HeldRun,
  ranks: Ranks,
  signal: AbortSignal | undefined,
): AsyncGenerator<LoadingEvent, FoundCheckpoint> {
  yield { type: 'loading', what: 'checking the checkpoint' };
  return ranks.first('checkpoint to go on from', async () => {
    const { checkpoint, damaged } = await newestWhole(checkpoints, signal);
    if (checkpoint === undefined && damaged[0] !== undefined) throw damaged[0];
    return { checkpoint, damaged: damaged.map(({ code, message }) => ({ code, message })) };
  });
}

/** The answers before the first update of a run that goes on, for those who show them beside later ones. */
async function firstAnswers(run: HeldRun, { update }: Trainer): Promise<ProbesEvent[]> {
  return update === 0 ? [] : ofType(await readEvents(run.path), 'probes').slice(0, 1);
}

/** Each question on its own, with greedy answers. */
function answerer(chat: OpenedModel, { image: { reading } }: Recipe): Answer {
  return async (question, options) => {
    const conversation = new Conversation(chat, { system: chat.text.system, reading });
    for (const path of question.images) await options.agree(() => conversation.show(path));
    let answer = '';
    for await (const piece of conversation.ask(question.text, options)) answer += piece;
    return answer;
  };
}

/** Questions of a task as `patina eval` asks them. */
function taskAsker(opened: OpenedModel, { image: { reading } }: Recipe): AskTask {
  const chat = { ...opened, reading };
  return ({ harness, settings }, items, { rows, signal, shared }) => {
    const { prompt, maxNewTokens } = harness;
    const { system = opened.text.system } = settings;
    const options = { prompt, maxNewTokens, rows, system, signal };
    return shared === null
      ? askAll(chat, items, options)
      : askInStep(chat, items, { ...options, ...shared });
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
  scores: {},
  skipped: 0,
  badRecords: 0,
  warnings: {},
  seconds: 0,
};
