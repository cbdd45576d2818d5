/** `patina train`: trains what a recipe says, or goes on with a run. A thin caller of `train` and `resumeRun`. */
import { resolve } from 'node:path';

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
import type { Session } from './session.js';
import { drawIfNeeded } from './quickstart-data.js';
import { watchTraining } from './watch-training.js';

export interface TrainFlags {
  set?: string[];
  data?: string;
  limit?: number;
  resume?: string | true;
  maxUpdates?: number;
  dryRun?: boolean;
  changedBase?: boolean;
  json?: boolean;
}

export async function trainCommand(
  recipe: string | undefined,
  { set = [], data, limit, resume, maxUpdates, dryRun, changedBase, json = false }: TrainFlags,
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
    const options = { maxUpdates, dryRun, changedBase, signal, onDownload };
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
