/**
 * `train(recipe)`: a whole run, from files to files, as a stream of typed events.
 *
 *     for await (const event of train(recipe, { signal })) console.log(event);
 *
 * Raising the signal once ends the run after the current update with a checkpoint and an `end` event; leaving the loop early
 * ends it without one.
 */

import { requireFree } from '../base/disk-space.js';
import { PatinaError, UsageError } from '../base/errors.js';
import { checkRecipe, effectiveBatch, type Recipe, type RecipeInput } from '../config/index.js';
import { openDataset } from '../data/index.js';
import { Conversation, type ChatModel } from '../generate/index.js';
import { Generator, setThreads, torchFacts } from '../torch/index.js';
import { chooseDevice } from './device-choice.js';
import { environmentFacts } from './environment.js';
import type { EndEvent, LoadingEvent, StartEvent, TrainEvent, WarningEvent } from './events.js';
import { Journal } from './journal.js';
import { openModel } from './open-model.js';
import { choosePrecision } from './precision.js';
import { newestWhole } from './run/checkpoints.js';
import { RunFolder } from './run/run-folder.js';
import { prepareTrainable } from './trainable.js';
import { TrainedWeights } from './trained-weights.js';
import { planRun, Trainer, type Answer, type RunOptions } from './trainer.js';

export interface TrainOptions extends RunOptions {
  /** Do everything up to the first update, and make no run. @default false */
  dryRun?: boolean | undefined;
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
  /** Assignments such as `schedule.epochs=2` over the recipe that the run was made with. */
  set?: readonly string[] | undefined;
}

/**
 * Goes on with the run in a folder, from its newest whole checkpoint.
 *
 * @throws what `train` throws; UsageError `E_NO_RUN`; EnvironmentError `E_RUN_IN_USE`
 */
export async function* resumeRun(
  folder: string,
  { set = [], ...options }: ResumeOptions = {},
): AsyncGenerator<TrainEvent, void> {
  const run = await RunFolder.open(folder);
  try {
    const recipe = checkRecipe(await run.recipe(), { set, locate: `${folder}/recipe.json` });
    yield* runRecipe(recipe, options, run);
  } catch (error) {
    await run.setState('failed', { reason: reasonOf(error) }).catch(() => undefined);
    throw error;
  } finally {
    run.close();
  }
}

async function* runRecipe(
  recipe: Recipe,
  { dryRun = false, signal, maxUpdates }: TrainOptions,
  existing?: RunFolder,
): AsyncGenerator<TrainEvent, void> {
  const closers: (() => unknown)[] = [];
  try {
    if (recipe.threads !== undefined && recipe.threads !== torchFacts().threads) {
      setThreads(recipe.threads);
    }
    const device = chooseDevice(recipe.device);
    const precision = choosePrecision(recipe.precision, device);
    const batching = effectiveBatch(recipe, 1);
    refuseAccumulation(recipe, batching.accumulate);

    yield loading('loading the model');
    const opened = await openModel(recipe, {
      device: device.device,
      dtype: precision.compute,
      signal,
    });
    closers.push(() => opened.model.dispose());
    const { model, tokenizer, pictures } = opened;

    yield loading('opening the data');
    const data = await openDataset(recipe, {
      tokenizer,
      input: model.input,
      // The data set makes the colour of its padding from the mean again.
      imageMean: pictures ? meanOf(pictures.background) : undefined,
      signal,
    });
    closers.push(() => data.close());

    const generator = Generator.create(recipe.seed, device.device);
    const trainable = prepareTrainable(model, {
      ...recipe,
      dtype: precision.compute,
      device: device.device,
      generator,
      learningRateScale: batching.learningRateScale,
    });
    generator.dispose();

    const plan = planRun(recipe, batching, data);
    const start: Omit<StartEvent, 'run' | 'resumedFrom'> = {
      type: 'start',
      recipe: recipe.name,
      device: device.name,
      statements: [precision.statement, batching.statement],
      table: trainable.table,
      parameters: {
        trained: sum(trainable.table.filter(({ learningRate }) => learningRate !== null)),
        total: sum(trainable.table),
      },
      data: {
        sources: data.sources,
        recordsPerEpoch: data.recordsPerEpoch,
        validationRecords: data.validationRecords,
      },
      updates: plan,
    };
    if (dryRun) {
      yield { ...start, run: null, resumedFrom: 0 };
      yield NOTHING_TRAINED;
      return;
    }

    const weights = new TrainedWeights({ ...opened, trainable, train: recipe.train });
    const trainer = new Trainer({
      ...{ recipe, batching, device, precision, model, trainable, weights, data },
      normaliseTable: pictures?.normaliseTable,
      answer: answerer(opened, recipe),
    });
    closers.push(() => trainer.dispose());
    const { keep, keepBest } = recipe.checkpoints;
    // One more while it is written, before the oldest goes.
    const bytes = trainer.checkpointBytes * (keep + Number(keepBest) + 1);
    await requireFree(existing?.path ?? recipe.run.root, bytes, 'the checkpoints of the run');
    signal?.throwIfAborted();

    const run = existing ?? (await newRun(recipe, environmentFacts(device), plan.planned));
    if (existing === undefined) closers.push(() => run.close());
    const warnings = existing === undefined ? [] : await restore(trainer, existing, signal);
    const journal = new Journal(run, {
      tensorboard: recipe.run.tensorboard,
      resumedAfter: existing === undefined ? undefined : trainer.update,
    });
    closers.push(() => journal.close());

    let ended = false;
    try {
      const events = [{ ...start, run: run.path, resumedFrom: trainer.update }, ...warnings];
      for (const event of events) {
        journal.keep(event);
        yield event;
      }
      for await (const event of trainer.run(run, { signal, maxUpdates })) {
        journal.keep(event);
        if (event.type === 'end') {
          await endRun(run, event, plan.planned);
          ended = true;
        }
        yield event;
      }
    } catch (error) {
      ended = true;
      const { code = 'E_UNEXPECTED', hint } = error instanceof PatinaError ? error : {};
      const reason = reasonOf(error);
      const time = new Date().toISOString();
      await run.setState('failed', { updates: trainer.update, reason }).catch(() => undefined);
      run.events.write({ time, type: 'failed', update: trainer.update, code, reason, hint });
      throw error;
    } finally {
      if (!ended) await run.setState('interrupted', { updates: trainer.update });
    }
  } finally {
    for (const close of closers.reverse()) await close();
  }
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

/** Goes on from the newest checkpoint that is whole; from the beginning where there is none. */
async function restore(
  trainer: Trainer,
  run: RunFolder,
  signal: AbortSignal | undefined,
): Promise<WarningEvent[]> {
  const { checkpoint, damaged } = await newestWhole(run.checkpoints, signal);
  if (checkpoint !== undefined) await trainer.restore(checkpoint);
  return damaged.map(({ code, message }) => ({
    type: 'warning',
    update: trainer.update,
    code,
    message,
  }));
}

async function endRun(run: RunFolder, { reason, update }: EndEvent, planned: number) {
  const goesOn = reason === 'interrupted' || reason === 'max-updates';
  await run.setState(goesOn ? 'interrupted' : 'finished', {
    updates: update,
    plannedUpdates: planned,
    ...(reason === 'max-updates' && { reason: `stopped after ${update} updates, as asked for` }),
    ...(reason === 'early-stopped' && { reason: 'the validation loss no longer fell' }),
  });
}

/** Each question on its own, with greedy answers. */
function answerer(chat: ChatModel, { text, image }: Recipe): Answer {
  return async (question, options) => {
    const conversation = new Conversation(chat, { system: text.system, reading: image.reading });
    for (const path of question.images) await conversation.show(path);
    let answer = '';
    for await (const piece of conversation.ask(question.text, options)) answer += piece;
    return answer;
  };
}

function refuseAccumulation({ optimizer }: Recipe, accumulate: number): void {
  if (!optimizer.updateInBackward || accumulate === 1) return;
  throw new UsageError(
    `optimizer.updateInBackward excludes accumulation, and the recipe accumulates ${accumulate} micro-batches.`,
    {
      code: 'E_UPDATE_IN_BACKWARD',
      hint: 'Set `accumulate` to 1, or `updateInBackward` to false.',
    },
  );
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
  seconds: 0,
};

type Rgb = readonly [number, number, number];

function meanOf([red, green, blue]: Rgb): Rgb {
  return [(red + 0.5) / 255, (green + 0.5) / 255, (blue + 0.5) / 255];
}

function loading(what: string): LoadingEvent {
  return { type: 'loading', what };
}

function sum(rows: readonly { readonly parameters: number }[]): number {
  return rows.reduce((total, { parameters }) => total + parameters, 0);
}

function reasonOf(error: unknown): string {
  return (error instanceof Error ? error.message : String(error)).split('\n')[0]!;
}
