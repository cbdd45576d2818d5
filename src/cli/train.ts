/** `patina train`: trains what a recipe says, or goes on with a run. A thin caller of `train` and `resumeRun`. */
import { resolve } from 'node:path';
import type { Command } from 'commander';

import { UsageError } from '../base/errors.js';
import { findRecipe } from '../recipes/find-recipe.js';
import {
  findRun,
  listRuns,
  resumeRun,
  train,
  type TrainEvent,
  type TrainOptions,
} from '../train/index.js';
import { collect, countValue } from './arguments.js';
import type { Session } from './commands.js';
import { drawIfNeeded } from './quickstart-data.js';
import { watchTraining } from './watch-training.js';

interface TrainFlags {
  set?: string[];
  data?: string;
  limit?: number;
  resume?: string | true;
  maxUpdates?: number;
  dryRun?: boolean;
  json?: boolean;
}

export function define(command: Command, session: Session): void {
  command
    .argument('[recipe]', 'name of a built-in recipe, or a .ts, .yaml or .json file')
    .option(
      '--set <field=value>',
      'set a field of the recipe, such as optimizer.learningRate=2e-5; may be repeated',
      collect,
    )
    .option('--data <file>', "train on this file or data set in place of the recipe's")
    .option('--limit <n>', 'train on the first n records alone', countValue)
    .option(
      '--resume [run]',
      'go on with a run; default: the newest, of the recipe if one is named',
    )
    .option('--max-updates <n>', 'stop after so many updates, with a checkpoint', countValue)
    .option(
      '--dry-run',
      'load model and data, show what would train, and train nothing; records are checked by `patina show --data`',
    )
    .option('--json', 'print each event as a line of JSON')
    .addHelpText(
      'after',
      `
Examples:
  patina train llava-llama-3-8b-lora --data photos.jsonl --dry-run
  patina train my-recipe.yaml --limit 100 --max-updates 10
  patina train my-recipe.ts --set optimizer.learningRate=1e-4 --set device=cuda:1
  patina train --resume
  patina train --resume my-recipe-20260131-235959 --set schedule.epochs=2

Ctrl-C finishes the update, saves and ends with exit code 130; a second one
leaves at once.`,
    )
    .action((recipe: string | undefined, flags: TrainFlags) =>
      trainCommand(recipe, flags, session),
    );
}

async function trainCommand(
  recipe: string | undefined,
  { set = [], data, limit, resume, maxUpdates, dryRun, json = false }: TrainFlags,
  session: Session,
): Promise<void> {
  const sets = [
    ...set,
    ...(data === undefined ? [] : [`data.sources=${JSON.stringify([data])}`]),
    ...(limit === undefined ? [] : [`data.limit=${limit}`]),
  ];
  const open = async (
    signal: AbortSignal,
    onDownload: TrainOptions['onDownload'],
  ): Promise<AsyncIterable<TrainEvent>> => {
    const options = { maxUpdates, dryRun, signal, onDownload };
    if (resume !== undefined) {
      return resumeRun(await runToResume(recipe, resume, sets), { ...options, set: sets });
    }
    if (recipe === undefined) throw noRecipe();
    const found = await findRecipe(recipe, { set: sets });
    await drawIfNeeded(found, session, signal);
    return train(found, options);
  };
  await watchTraining(open, { session, json });
}

async function runToResume(
  recipe: string | undefined,
  resume: string | true,
  set: readonly string[],
): Promise<string> {
  if (typeof resume === 'string') return findRun(resume);
  if (recipe === undefined) return findRun();
  const { name, run } = await findRecipe(recipe, { set });
  const newest = (await listRuns(run.root)).find((each) => each.recipe === name);
  if (newest !== undefined) return newest.path;
  throw new UsageError(`There is no run of ${name} under ${resolve(run.root)}.`, {
    code: 'E_NO_RUN',
    hint: 'Begin one without --resume.',
  });
}

function noRecipe(): UsageError {
  return new UsageError('no recipe was given', {
    code: 'E_USAGE',
    hint: 'Name one: `patina recipes list` shows those that are built in; `patina train --help` has examples.',
  });
}
