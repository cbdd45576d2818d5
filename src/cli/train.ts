/** `patina train`: trains what a recipe says, or goes on with a run. A thin caller of `train` and `resumeRun`. */
import { resolve } from 'node:path';

import { UsageError } from '../base/errors.js';
import { checkRecipe, type Recipe } from '../config/index.js';
import { resumeRun, train } from '../guard/index.js';
import { isCommon, placeFromEnvironment } from '../parallel/index.js';
import { RunCalibration } from '../plan/calibration/run-calibration.js';
import { findRecipe } from '../recipes/find-recipe.js';
import {
  findRun,
  listRuns,
  refuseOneGpu,
  type TrainEvent,
  type TrainOptions,
} from '../train/index.js';
import { keepCalibration, openCalibration } from './calibration.js';
import { fitHere, type Fit } from './fit.js';
import { launchTraining, needsLaunch, ranksHere } from './launch-training.js';
import { exitCodeOf, printError } from './print-error.js';
import type { Session } from './session.js';
import { drawIfNeeded } from './quickstart-data.js';
import { PageBeside } from './page-beside.js';
import { RankLog } from './rank-log.js';
import { watchTraining } from './watch-training.js';

export interface TrainFlags {
  set?: string[];
  data?: string;
  limit?: number;
  resume?: string | true;
  nproc?: number | 'gpus';
  maxUpdates?: number;
  profile?: number;
  dryRun?: boolean;
  changedBase?: boolean;
  json?: boolean;
  page?: boolean;
  fit?: Fit;
}

export async function trainCommand(
  recipe: string | undefined,
  { set = [], data, limit, nproc, ...flags }: TrainFlags,
  session: Session,
): Promise<void> {
  const sets = [
    ...set,
    ...(data === undefined ? [] : [`data.sources=${JSON.stringify([data])}`]),
    ...(limit === undefined ? [] : [`data.limit=${limit}`]),
  ];
  const asked = { ...flags, set: sets };
  if (flags.fit !== undefined) refuseFit(asked);
  if (nproc !== undefined) {
    const processes = ranksHere(nproc);
    if (needsLaunch(processes)) {
      // What is wrong with the command is said once, here.
      const work = await session.inOrder((signal) => findWork(recipe, asked, session, signal));
      if ('begins' in work) refuseOneGpu(work.begins.device, processes);
      if (session.exitCode === 0) {
        const set = [
          ...sets,
          ...(await session.inOrder((signal) =>
            fitting(work, asked, { processes, signal }, session),
          )),
        ];
        const args = argumentsOf(recipe, { ...asked, set }, work);
        await launchTraining(args, { processes, session });
      }
      return;
    }
  }
  const { rank } = placeFromEnvironment();
  if (rank === 0) await watch(recipe, asked, session);
  else await watchBeside(rank, recipe, asked, session);
}

type Asked = Omit<TrainFlags, 'set' | 'data' | 'limit' | 'nproc'> & { readonly set: string[] };

/** What there is to train: a recipe, or the folder of a run to go on with. */
type Work = { readonly begins: Recipe } | { readonly goesOn: string };

async function findWork(
  recipe: string | undefined,
  { set, resume }: Asked,
  session: Session,
  signal: AbortSignal,
): Promise<Work> {
  if (resume !== undefined) return { goesOn: await runToResume(recipe, resume, set) };
  if (recipe === undefined) throw noRecipe();
  const begins = await findRecipe(recipe, { set });
  await drawIfNeeded(begins, session, signal);
  return { begins };
}

/** What `--fit` sets. */
async function fitting(
  work: Work,
  { fit, json = false }: Asked,
  { processes, signal }: { processes: number; signal: AbortSignal },
  session: Session,
): Promise<readonly string[]> {
  if (fit === undefined || !('begins' in work)) return [];
  return fitHere(work.begins, { fit, processes, json, signal }, session);
}

/** Ranks that another launcher started would each look for themselves. */
function refuseFit({ resume }: Asked): void {
  const { worldSize } = placeFromEnvironment();
  if (resume === undefined && worldSize === 1) return;
  const why =
    resume === undefined
      ? 'ranks that were started from outside are not fitted'
      : 'a run that goes on is not fitted again';
  throw new UsageError(`--fit: ${why}`, {
    code: 'E_FIT',
    hint: 'Leave out --fit, and give with --set what `patina plan` suggests.',
  });
}

async function watch(
  recipe: string | undefined,
  asked: Asked,
  session: Session,
  onEvent?: (event: TrainEvent) => void,
): Promise<void> {
  const { maxUpdates, profile, dryRun, changedBase, set, json = false, page = false } = asked;
  await using beside = page ? new PageBeside(session.stderr) : null;
  const calibration = new RunCalibration(await openCalibration(session));
  const open = async (
    signal: AbortSignal,
    onDownload: TrainOptions['onDownload'],
    savesWished: TrainOptions['savesWished'],
  ): Promise<AsyncIterable<TrainEvent>> => {
    const running = { maxUpdates, profile, dryRun, signal, savesWished };
    const options = { ...running, changedBase, onDownload, predict: calibration.predict };
    const work = await findWork(recipe, asked, session, signal);
    const fitted = await fitting(work, asked, { processes: 1, signal }, session);
    return 'begins' in work
      ? train(checkRecipe(work.begins, { set: fitted }), options)
      : resumeRun(work.goesOn, { ...options, set });
  };
  await watchTraining(open, {
    ...{ session, json },
    onEvent: (event) => {
      if (event.type === 'start' && event.run !== null) beside?.open(event.run);
      calibration.see(event);
      onEvent?.(event);
    },
  });
  await keepCalibration(calibration, session);
}

/** A rank other than the first: what it says goes into its log. */
async function watchBeside(
  rank: number,
  recipe: string | undefined,
  asked: Asked,
  session: Session,
): Promise<void> {
  const log = new RankLog(rank);
  try {
    await watch(recipe, { ...asked, json: false, page: false }, log.within(session), (event) => {
      if (event.type === 'start' && event.run !== null) log.open(event.run);
    });
  } catch (error) {
    session.exitCode = exitCodeOf(error);
    if (log.isOpen) printError(error, log);
    else if (!isCommon(error)) throw error;
  }
}

/** The arguments of `patina` with which each rank does the work. */
function argumentsOf(recipe: string | undefined, asked: Asked, work: Work): string[] {
  const { set, maxUpdates, profile, dryRun, changedBase, json, page } = asked;
  return [
    'train',
    ...('begins' in work ? [recipe!] : [`--resume=${work.goesOn}`]),
    ...set.flatMap((each) => ['--set', each]),
    ...(maxUpdates === undefined ? [] : ['--max-updates', `${maxUpdates}`]),
    ...(profile === undefined ? [] : ['--profile', `${profile}`]),
    ...(dryRun === true ? ['--dry-run'] : []),
    ...(changedBase === true ? ['--changed-base'] : []),
    ...(json === true ? ['--json'] : []),
    ...(page === true ? ['--page'] : []),
  ];
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
