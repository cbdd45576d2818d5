/** `patina check`: what is wrong with data and recipe, before any GPU time. A thin caller of `check`. */
import { readSmallText } from '../formats/small-file.js';
import { formatCount, formatDuration, plural } from '../base/format.js';
import { jsonLine } from '../base/json-text.js';
import { shortText } from '../base/short-text.js';
import { checkRecipe, type Recipe } from '../config/index.js';
import { describePlace } from '../data/sources/place.js';
import {
  check,
  type CheckParts,
  type CheckSummary,
  drawLengths,
  type Finding,
} from '../guard/check/index.js';
import { findRecipe } from '../recipes/find-recipe.js';
import { recipes } from '../recipes/built-in.js';
import { LoadProgress } from './load-progress.js';
import { drawIfNeeded } from './quickstart-data.js';
import type { Session } from './session.js';

export interface CheckFlags {
  model?: string;
  data?: string;
  limit?: number;
  set?: string[];
  fix?: string;
  deep?: boolean;
  threads?: number;
  nproc?: number;
  changedBase?: boolean;
  json?: boolean;
}

export async function checkCommand(
  target: string,
  { json = false, ...flags }: CheckFlags,
  session: Session,
): Promise<void> {
  const { fix, deep, threads, changedBase, nproc: worldSize } = flags;
  const { recipe, parts } = await subjectOf(target, flags);
  const progress = new LoadProgress(session.stderr);
  await session.inOrder(async (signal) => {
    try {
      await drawIfNeeded(recipe, session, signal);
      const events = check(recipe, {
        ...{ parts, fix, deep, threads, changedBase, worldSize, signal },
        onDownload: (event) => progress.download(event),
        onProgress: (what, done, total) => progress.part(what, done, total),
      });
      for await (const event of events) {
        progress.end();
        const text = event.type === 'finding' ? findingLines(event) : summaryLines(event);
        session.stdout.write(json ? jsonLine(event) : text.map((line) => `${line}\n`).join(''));
        if (event.type === 'summary' && event.errors > 0) session.exitCode = 4;
      }
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) throw error;
    } finally {
      progress.end();
    }
  });
}

/** What a name on the command line means, as a recipe, and what of that recipe is the user's. */
async function subjectOf(
  target: string,
  { model, data, limit, set = [] }: CheckFlags,
): Promise<{ recipe: Recipe; parts: CheckParts }> {
  const limited = limit === undefined ? [] : [`data.limit=${limit}`];
  if (await isRecipe(target)) {
    const sets = [
      ...set,
      ...(data === undefined ? [] : [`data.sources=${JSON.stringify([data])}`]),
      ...(model === undefined ? [] : [`model=${JSON.stringify({ from: model })}`]),
      ...limited,
    ];
    return {
      recipe: await findRecipe(target, { set: sets }),
      parts: { model: true, training: true },
    };
  }
  const recipe = checkRecipe(
    {
      name: 'check',
      model: { from: model ?? 'none' },
      data: { sources: [data ?? target] },
      // Of no meaning here; a recipe has to have one.
      optimizer: { learningRate: 1e-5 },
    },
    { set: [...set, ...limited], locate: 'patina check' },
  );
  return { recipe, parts: { model: model !== undefined, training: false } };
}

/** A JSON file is a recipe where it is one object that says what trains; records are a list, or one object a line. */
async function isRecipe(target: string): Promise<boolean> {
  if (Object.hasOwn(recipes, target) || /\.([cm]?[jt]s|ya?ml)$/i.test(target)) return true;
  if (!/\.json$/i.test(target)) return false;
  const text = await readSmallText(target).catch(() => undefined);
  if (text === undefined || !/^\s*\{/.test(text)) return false;
  try {
    const json = JSON.parse(text) as object;
    return 'optimizer' in json || 'data' in json;
  } catch {
    return false; // records, one a line
  }
}

function findingLines({ severity, cause, code, message, count, fix, places }: Finding): string[] {
  const told = cause === 'unknown' ? code : cause;
  const times = places.length === 0 || count === 1 ? '' : ` (${count} records)`;
  const where = places.map(({ source, line, record, id, message: own }) => {
    const name = id === null ? '' : `, id ${shortText(JSON.stringify(id), 60)}`;
    return `  ${describePlace({ file: source, line, record })}${name}: ${own}`;
  });
  const more =
    count > places.length && places.length > 0 ? [`  and ${count - places.length} more`] : [];
  const head = places.length === 0 ? `: ${message}` : '';
  return [`${severity}: ${told}${times}${head}`, ...where, ...more, `  > ${fix}`, ''];
}

function summaryLines(summary: CheckSummary): string[] {
  const { records, bad, odd, pictures, tokens, supervised, lengths, counted, seconds } = summary;
  const about = counted ? '' : 'about ';
  const learned = counted ? `, ${formatCount(supervised)} of them learned` : '';
  const { errors, warnings, notChecked, cleaned, loss } = summary;
  return [
    `length in tokens (${about}${lengths.median} in the middle, 99 % up to ${lengths.p99}, longest ${lengths.longest}):`,
    ...drawLengths(lengths).map((line) => `  ${line}`),
    '',
    `${formatCount(records)} records, ${pictures} pictures, ${about}${formatCount(tokens)} tokens${learned} (${formatDuration(seconds)})`,
    ...(loss === null ? [] : [`loss of the first records: ${loss.toPrecision(3)} a token`]),
    ...notChecked.map((what) => `not checked: ${what}`),
    ...(cleaned === undefined
      ? []
      : [
          `kept ${cleaned.kept} records${cleaned.files.length > 0 ? ` in ${cleaned.files.join(', ')}` : ''}`,
          `left out ${cleaned.leftOut}, listed in ${cleaned.list}`,
        ]),
    errors + warnings === 0
      ? 'Nothing found.'
      : `${bad} records with errors, ${odd} with warnings alone; ${plural(errors, 'kind')} of errors, ${warnings} of warnings.`,
  ];
}
