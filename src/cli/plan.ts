/** `patina plan`: whether a run fits, and how long it takes, before a GPU is there. */
import { readFile } from 'node:fs/promises';

import { formatBytes, formatCount, formatDuration, formatPace, plural } from '../base/format.js';
import { jsonLine } from '../base/json-text.js';
import { UsageError } from '../base/errors.js';
import { writing } from '../base/system-error.js';
import { writeWholeFile } from '../base/whole-file.js';
import { checkRecipe, type Recipe } from '../config/index.js';
import { modelConfigOf } from '../plan/model-config.js';
import { openPlanData, type PlanData } from '../plan/plan-data.js';
import type { Moment } from '../plan/course.js';
import { planPage } from '../plan/figure/page.js';
import { planSvg } from '../plan/figure/svg.js';
import { plan, type Plan, type PlanOptions } from '../plan/plan.js';
import { answer, type Question } from '../plan/search/questions.js';
import { readGpus } from '../plan/devices/cards.js';
import { findRecipe } from '../recipes/find-recipe.js';
import { suggest, type Suggestion } from '../plan/search/search.js';
import { openCalibration } from './calibration.js';
import { LoadProgress } from './load-progress.js';
import { drawIfNeeded } from './quickstart-data.js';
import { withPlanProgress } from './plan-progress.js';
import type { Session } from './session.js';
import { requireTargets } from './targets.js';

export interface PlanFlags {
  gpus: string;
  set?: string[];
  /** A file in place of the recipe's data; `true`: these. */
  data?: string | true;
  expandable?: boolean;
  html?: string;
  svg?: string;
  suggest?: boolean;
  largest?: 'batch';
  longest?: 'sample';
  fewest?: 'gpus';
  json?: boolean;
}

/** Of the error that a run which does not fit would end with. */
const OUT_OF_MEMORY = 5;
/** Columns of a bar that fills the card. */
const WIDTH = 40;
const WRITING = 'write the picture of the plan';

export async function planCommand(name: string, flags: PlanFlags, session: Session): Promise<void> {
  const { set = [], expandable = false, json = false } = flags;
  refuseFigures(flags);
  await requireTargets({ '--html': flags.html, '--svg': flags.svg }, WRITING);
  for (const path of [flags.html, flags.svg]) if (path !== undefined) await requireFigure(path);
  const gpus = readGpus(flags.gpus);
  const question = questionOf(flags);
  const recipe = await findRecipe(name, { set: [...set, ...sourceOf(flags)] });
  const data = flags.data === undefined ? undefined : await countedData(recipe, session);
  const calibration = await openCalibration(session);
  const options: PlanOptions = { gpus, expandable, data, calibration };
  if (question !== undefined) {
    await answerQuestion(question, recipe, { options, json, session });
    return;
  }
  let moments: readonly Moment[] = [];
  const onCourse = (course: readonly Moment[]): void => void (moments = course);
  const planned = await plan(recipe, { ...options, onCourse });
  if (!planned.fits) session.exitCode = OUT_OF_MEMORY;
  if (!json) session.stdout.write(planText(planned, recipe));
  const suggestions =
    (flags.suggest ?? !planned.fits)
      ? await withPlanProgress(session, (show) =>
          suggest(recipe, planned, { ...options, onPlan: (_, change) => show(change.set) }),
        )
      : null;
  const limit = planned.perRank[0]!.reserved + planned.margin;
  const figure = { plan: planned, moments, limit };
  if (flags.svg !== undefined) await writeFigure(flags.svg, planSvg(figure));
  if (flags.html !== undefined) {
    const page = planPage({ ...figure, suggestions: suggestions ?? [] });
    await writeFigure(flags.html, page);
  }
  if (json) session.stdout.write(jsonLine({ ...planned, suggestions: suggestions ?? [] }));
  else if (suggestions !== null) session.stdout.write(suggestionsText(suggestions, planned));
}

function questionOf({ largest, longest, fewest }: PlanFlags): Question | undefined {
  const asked = [largest, longest, fewest].filter((each) => each !== undefined);
  if (asked.length > 1) {
    throw new UsageError('--largest, --longest and --fewest are asked one at a time', {
      code: 'E_PLAN_QUESTION',
      hint: 'Leave out all but one of them.',
    });
  }
  return asked[0];
}

function writeFigure(path: string, content: string): Promise<void> {
  return writing(path, WRITING, () => writeWholeFile(path, content));
}

/** A picture replaces another one, and nothing else: the recipe may be named by mistake. */
async function requireFigure(path: string): Promise<void> {
  const there = await readFile(path, 'utf8').catch(() => '<'); // what cannot be read is told when it is written
  if (there === '' || there.startsWith('<')) return;
  throw new UsageError(`${path} is there, and is no picture of a plan`, {
    code: 'E_PLAN_FIGURE',
    hint: 'Name another file, or remove this one.',
  });
}

/** A file that is planned for in place of the recipe's data. */
function sourceOf({ data, longest }: PlanFlags): string[] {
  if (data === undefined) return [];
  if (longest !== undefined) {
    throw new UsageError('--longest asks for a record of any length, and --data gives lengths', {
      code: 'E_PLAN_QUESTION',
      hint: 'Leave out one of them.',
    });
  }
  return data === true ? [] : [`data.sources=${JSON.stringify([data])}`];
}

async function countedData(recipe: Recipe, session: Session): Promise<PlanData> {
  const progress = new LoadProgress(session.stderr);
  return session.inOrder(async (signal) => {
    await drawIfNeeded(recipe, session, signal);
    try {
      return await openPlanData(recipe, {
        model: await modelConfigOf(recipe, signal),
        signal,
        onDownload: (event) => progress.download(event),
        onProgress: (done, total) => progress.part('records', done, total),
      });
    } finally {
      progress.end();
    }
  });
}

/** A question has an answer in place of a picture. */
function refuseFigures(flags: PlanFlags): void {
  if ((flags.html ?? flags.svg) === undefined || questionOf(flags) === undefined) return;
  throw new UsageError('a question has no picture', {
    code: 'E_PLAN_FIGURE',
    hint: 'Leave out --html and --svg, or plan with the answer by --set.',
  });
}

async function answerQuestion(
  question: Question,
  recipe: Recipe,
  { options, json, session }: { options: PlanOptions; json: boolean; session: Session },
): Promise<void> {
  const found = await withPlanProgress(session, (show) =>
    answer(question, recipe, {
      ...options,
      onPlan: ({ set, gpus }) => show([...set, `${gpus.count} x ${gpus.card.name}`]),
    }),
  );
  if (found === null) {
    session.exitCode = OUT_OF_MEMORY;
    if (json) session.stdout.write(jsonLine({ question, fits: false }));
    else session.stdout.write(`${NONE[question]}\n`);
    return;
  }
  const planned = await plan(checkRecipe(recipe, { set: found.set }), { ...options, ...found });
  if (json) {
    session.stdout.write(jsonLine({ question, set: found.set, ...planned, suggestions: [] }));
    return;
  }
  const what =
    question === 'gpus' ? `${found.gpus.count} x ${found.gpus.card.name}` : settings(found.set);
  session.stdout.write(`${ASKED[question]}: ${what}\n\n${planText(planned, recipe)}`);
}

const ASKED: Readonly<Record<Question, string>> = {
  batch: 'Largest micro-batch that fits',
  sample: 'Longest record that fits',
  gpus: 'Fewest GPUs that are enough',
};
const NONE: Readonly<Record<Question, string>> = {
  batch:
    'Not even a micro-batch of one record fits: without --largest, changes that fit are looked for.',
  sample: 'Not even a short record fits: without --longest, changes that fit are looked for.',
  gpus: 'No number of such GPUs is enough: share more out (parallel.zero), or see what fits without --fewest.',
};

export function planText(planned: Plan, { memory: { limit } }: Pick<Recipe, 'memory'>): string {
  const { recipe, gpu, ranks, fits, margin, perRank, timeline, largest, batch, seconds } = planned;
  const fullest = perRank[0]!;
  const verdict = fits
    ? `fits, with ${formatBytes(margin)} to spare`
    : `does not fit: ${formatBytes(-margin)} are missing`;
  const each = ranks === 1 ? '' : ' each';
  const bound = limit === undefined ? '' : `; memory.limit ${formatBytes(limit * 2 ** 30)}`;
  const memory = `${formatBytes(gpu.memory)}${each}${bound}`;
  const { allocated, reserved, total, host, phase, atPeak } = fullest;
  const categories = Object.entries(atPeak)
    .filter(([, bytes]) => bytes > 0)
    .sort(([, a], [, b]) => b - a);
  return lines([
    `${recipe} on ${ranks} x ${gpu.name} (${memory}): ${verdict}`,
    `  ${formatBytes(total)} a GPU: ${formatBytes(allocated)} in tensors, ${formatBytes(reserved)} reserved, and the context of CUDA${ranks === 1 ? '' : ' with NCCL'}` +
      (host > 0 ? `; ${formatBytes(host)} of host memory a process` : ''),
    `  micro-batch of ${plural(batch.records, 'record')}, ${batch.tokens} tokens, ${plural(batch.images, 'picture')} (${batch.basis}), ${Number(batch.microBatches.toPrecision(3))} an update on each GPU`,
    ...(planned.data === null ? [] : dataLines(planned.data)),
    `  ${formatPace(seconds.update)} an update, ${formatCount(planned.tokensPerSecond)} tokens/s` +
      (seconds.run === null ? '' : `, ${formatDuration(seconds.run)} in all`),
    '',
    'Most in tensors, and reserved (·), by phase:',
    ...timeline.map((at) => bar(at, gpu.memory)),
    '',
    `Alive at the peak (${phase}):`,
    ...categories.map(([name, bytes]) => `  ${formatBytes(bytes).padStart(9)}  ${name}`),
    '',
    'Largest tensors then:',
    ...largest.map(({ name, bytes }) => `  ${formatBytes(bytes).padStart(9)}  ${name}`),
    '',
    `Accuracy: ${planned.accuracy.basis}.`,
  ]);
}

/** What the data say. */
function dataLines({ leftOut, ...data }: NonNullable<Plan['data']>): string[] {
  const { recordTokens: each, microBatchTokens: micro, fill, balance } = data;
  const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;
  return [
    `  ${formatCount(data.records)} records of ${Math.round(each.mean)} tokens on average (99 % up to ${each.p99}, longest ${each.most})` +
      (leftOut === 0
        ? ''
        : `; ${leftOut === 1 ? '1 is' : `${leftOut} are`} left out: see \`patina check\``),
    `  micro-batches of ${Math.round(micro.mean)} tokens on average, ${micro.most} at most` +
      (fill === null ? '' : `: ${percent(fill)} of batchTokens`) +
      (balance === 1 ? '' : `; a GPU works ${percent(balance)} of a step`),
    `  ${formatCount(data.updatesPerEpoch)} update${data.updatesPerEpoch === 1 ? '' : 's'} an epoch, ${formatCount(data.updates)} in all`,
  ];
}

/** Rows of `--set` lines that fit. */
export function suggestionsText(suggestions: readonly Suggestion[], { fits }: Plan): string {
  if (suggestions.length === 0) {
    return fits
      ? '\nNothing that can be changed makes it faster.\n'
      : '\nNothing that can be changed makes it fit: take more GPUs, or GPUs with more memory.\n';
  }
  return lines([
    '',
    `What ${fits ? 'fits besides' : 'fits'}, the fastest first, and what keeps the method before what does not:`,
    ...suggestions.flatMap(({ set, total, secondsPerUpdate, numerics, batch }) => [
      `  ${settings(set)}`,
      `    ${formatPace(secondsPerUpdate)} an update, ${formatBytes(total)} a GPU; numerics: ${numerics}`,
      ...(batch === undefined ? [] : [`    ${batch}`]),
    ]),
  ]);
}

function settings(set: readonly string[]): string {
  return set.map((line) => `--set ${quoted(line)}`).join(' ');
}

/** For a shell. */
function quoted(line: string): string {
  return /^[\w.=-]+$/.test(line) ? line : `'${line}'`;
}

function bar({ phase, allocated, reserved }: Plan['timeline'][number], memory: number): string {
  const columns = (bytes: number): number => Math.round((WIDTH * bytes) / memory);
  const [solid, dotted] = [columns(allocated), columns(reserved)];
  const drawn = '█'.repeat(solid) + '·'.repeat(Math.max(0, dotted - solid));
  // The end of the card; what is beyond it does not fit.
  const marked =
    drawn.length > WIDTH
      ? `${drawn.slice(0, WIDTH)}|${drawn.slice(WIDTH, 2 * WIDTH)}`
      : `${drawn.padEnd(WIDTH)}|`;
  return `  ${phase.padEnd(13)} ${marked} ${formatBytes(allocated)}`;
}

function lines(all: readonly string[]): string {
  return `${all.join('\n')}\n`;
}
