/**
 * What became of a run, from its folder alone: the diagnoses that it told while it ran, and where it told none, what its curves and its end
 * say. Nothing here loads libtorch.
 */

import { number } from '../../base/json-lines.js';
import type { Recipe } from '../../config/index.js';
import type {
  DiagnosisEvent,
  RecoveryEvent,
  SmallerBatchesEvent,
  UpdateEvent,
} from '../../train/events.js';
import { readRun, type RunSummary } from '../../train/run/list-runs.js';
import type { LoggedEvent, Metrics } from '../../train/run/logs.js';
import { readRunRecipe } from '../../train/run/run-folder.js';
import { causeOfError } from '../diagnose/errors.js';
import { advice, pageOf } from '../diagnose/advice.js';
import { risen } from '../diagnose/risen.js';
import type { Cause } from '../causes.js';
import { Course } from '../watch/course.js';
import { Skips } from '../watch/skips.js';
import { byCause, type Told } from './by-cause.js';
import { readLogs } from './read-logs.js';

export interface PostMortem {
  readonly run: RunSummary;
  /** How it ended, a sentence. */
  readonly ending: string;
  /** By cause, in the order in which they came; what is read off the curves comes last. */
  readonly told: readonly Told[];
  readonly recoveries: readonly (RecoveryEvent | SmallerBatchesEvent)[];
  readonly skipped: number;
  readonly metrics: readonly Metrics[];
  /** What of its logs is not there or cannot be read, a sentence each. */
  readonly unread: readonly string[];
  /** Data of its recipe. */
  readonly sources: Recipe['data']['sources'];
}

/**
 * @param path of the run's folder
 * @throws UsageError `E_NO_RUN`; DataError `E_RUN_BROKEN`
 */
export async function postMortem(path: string): Promise<PostMortem> {
  const recipe = (await readRunRecipe(path)) as Recipe;
  const run = (await readRun(path))!;
  const { events, diagnoses, recoveries, metrics, unread } = await readLogs(path, run.updates);
  const told = byCause(diagnoses);
  const skipped = metrics.filter((each) => each['skipped'] === true).length;
  const found = told.length > 0 ? [] : fromCurves(run, { metrics, recipe, events });
  return {
    ...{ run, metrics, skipped, sources: recipe.data.sources },
    ending: endingOf(run),
    told: [...told, ...found.map((diagnosis) => ({ diagnosis, updates: [diagnosis.update] }))],
    ...{ recoveries, unread },
  };
}

function endingOf({ state, reason, updates, plannedUpdates }: RunSummary): string {
  const of = plannedUpdates === undefined ? `${updates}` : `${updates} of ${plannedUpdates}`;
  const after = `after ${of} updates`;
  switch (state) {
    case 'crashed':
      return `it died ${after}, without a word: killed, out of memory, or the machine went down`;
    case 'failed':
      return `it failed ${after}: ${reason?.replace(/\.$/, '') ?? 'no reason was kept'}`;
    case 'running':
      return `it is running, ${after}`;
    case 'finished':
      return `it finished ${after}`;
    case 'interrupted':
      return `it was interrupted ${after}`;
  }
}

interface Kept {
  readonly metrics: readonly Metrics[];
  readonly recipe: Recipe;
  readonly events: readonly LoggedEvent[];
}

/** What a run that told nothing shows by its curves and its end. */
function fromCurves(run: RunSummary, { metrics, recipe, events }: Kept): DiagnosisEvent[] {
  const last = metrics.at(-1);
  const update = last?.update ?? run.updates;
  const facts = { recipe, sequences: number(last?.['samples']) };
  const event = (
    cause: Cause,
    confidence: number,
    message: string,
    evidence: readonly string[] = [],
  ): DiagnosisEvent => ({
    ...{ type: 'diagnosis', update, cause, confidence, message, evidence },
    ...{ fix: advice(cause, facts), records: [], module: null, rank: null, page: pageOf(cause) },
  });
  const failure = run.state === 'failed' ? events.findLast(({ type }) => type === 'failed') : null;
  const failed = causeOfError(failure?.['code']);
  if (failed !== undefined) {
    const [message, fix] = [run.reason ?? 'the run failed', failure?.['hint']];
    return [{ ...event(failed, 0.8, message), ...(typeof fix === 'string' && { fix }) }];
  }
  const found: DiagnosisEvent[] = [];
  // The vocabulary is not in the folder: a run begins at best by knowing nothing.
  const start = metrics.map((line) => number(line['loss'])).find((loss) => Number.isFinite(loss));
  const course = new Course(start ?? Infinity);
  for (const line of metrics) course.add(updateOf(line));
  const verdict = risen({
    trend: course.trend(),
    recipe,
    learningRate: recipe.optimizer.learningRate,
  });
  if (verdict !== null) {
    found.push(event(verdict.cause, 0.6, verdict.message, verdict.evidence ?? []));
  }
  const skips = new Skips();
  const atEnd = metrics.map((each) => skips.add(each['skipped'] === true)).at(-1) ?? false;
  if (atEnd) {
    const scale = last?.['lossScale'];
    const atMinimum = scale !== null && scale === recipe.precision.lossScale?.minimum;
    found.push(
      event(
        atMinimum ? 'scale-at-minimum' : 'silent-skip',
        0.6,
        `${skips.count} of the last ${skips.of} updates were left out since their gradient was not finite`,
      ),
    );
  }
  const mute = metrics.filter((each) => each['supervised'] === 0).length;
  if (mute > 0) {
    found.push(event('no-supervision', 0.9, `${mute} updates had no token to learn`));
  }
  if (found.length === 0 && run.state === 'failed') {
    found.push(
      event('unknown', 0.2, run.reason ?? 'the run failed', ['its curves show nothing odd']),
    );
  }
  return found;
}

function updateOf(line: Metrics): UpdateEvent {
  const loss = line['loss'] === null ? null : number(line['loss']);
  const count = (key: string): number => number(line[key]) || 0;
  return {
    ...{ type: 'update', update: line.update, epoch: 0, loss, learningRate: 0, seconds: 0 },
    gradientNorm: number(line['gradientNorm']),
    counts: {
      ...{
        sequences: count('samples'),
        tokens: count('tokens'),
        imageTokens: count('imageTokens'),
      },
      ...{
        images: count('imageTokens') > 0 ? 1 : 0,
        supervised: count('supervised'),
        truncated: 0,
      },
    },
    ...{ tokensPerSecond: 0, samplesPerSecond: 0, waiting: 0 },
    memory: { peakBytes: 0, totalBytes: 0 },
    skipped: line['skipped'] === true,
    ...{ skippedSegments: null, lossScale: null },
  };
}
