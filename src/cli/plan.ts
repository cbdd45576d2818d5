/** `patina plan`: whether a run fits, and how long it takes, before a GPU is there. */
import { formatBytes, formatCount, formatDuration } from '../base/format.js';
import { jsonLine } from '../base/json-text.js';
import { plan, type Plan } from '../plan/plan.js';
import { readGpus } from '../plan/devices/cards.js';
import { findRecipe } from '../recipes/find-recipe.js';
import { suggest, type Suggestion } from '../plan/search/search.js';
import { LoadProgress } from './load-progress.js';
import type { Session } from './session.js';

export interface PlanFlags {
  gpus: string;
  set?: string[];
  expandable?: boolean;
  suggest?: boolean;
  json?: boolean;
}

/** Of the error that a run which does not fit would end with. */
const OUT_OF_MEMORY = 5;
/** Columns of a bar that fills the card. */
const WIDTH = 40;

export async function planCommand(
  name: string,
  { gpus, set = [], expandable = false, suggest: wanted, json = false }: PlanFlags,
  session: Session,
): Promise<void> {
  const where = readGpus(gpus);
  const recipe = await findRecipe(name, { set });
  const planned = await plan(recipe, { gpus: where, expandable });
  if (!json) session.stdout.write(planText(planned));
  const progress = new LoadProgress(session.stderr);
  const suggestions =
    (wanted ?? !planned.fits)
      ? await suggest(recipe, planned, {
          ...{ gpus: where, expandable },
          onPlan: (done, { set }) => {
            progress.plan(done, set.join(' '));
          },
        })
      : [];
  progress.end();
  if (json) session.stdout.write(jsonLine({ ...planned, suggestions }));
  else if (wanted ?? !planned.fits) session.stdout.write(suggestionsText(suggestions));
  if (!planned.fits) session.exitCode = OUT_OF_MEMORY;
}

export function planText(planned: Plan): string {
  const { recipe, gpu, ranks, fits, margin, perRank, timeline, largest, batch, seconds } = planned;
  const fullest = perRank[0]!;
  const memory = formatBytes(gpu.memory);
  const verdict = fits
    ? `fits, with ${formatBytes(margin)} to spare`
    : `does not fit: ${formatBytes(-margin)} are missing`;
  const each = ranks === 1 ? '' : ' each';
  const { allocated, reserved, total, host, phase, atPeak } = fullest;
  const categories = Object.entries(atPeak)
    .filter(([, bytes]) => bytes > 0)
    .sort(([, a], [, b]) => b - a);
  return lines([
    `${recipe} on ${ranks} x ${gpu.name} (${memory}${each}): ${verdict}`,
    `  ${formatBytes(total)} a GPU: ${formatBytes(allocated)} in tensors, ${formatBytes(reserved)} reserved, and the context of CUDA` +
      (host > 0 ? `; ${formatBytes(host)} of host memory a process` : ''),
    `  micro-batch of ${counted(batch.records, 'record')}, ${batch.tokens} tokens, ${counted(batch.images, 'picture')} (${batch.basis}), ${batch.microBatches} an update on each GPU`,
    `  ${paceText(seconds.update)} an update, ${formatCount(planned.tokensPerSecond)} tokens/s` +
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

/** Rows of `--set` lines that fit. */
export function suggestionsText(suggestions: readonly Suggestion[]): string {
  if (suggestions.length === 0) {
    return '\nNothing fits among what can be changed: take more GPUs, or GPUs with more memory.\n';
  }
  return lines([
    '',
    'What fits, the fastest first:',
    ...suggestions.flatMap(({ set, total, secondsPerUpdate, numerics, batch }) => [
      `  ${paceText(secondsPerUpdate)} an update, ${formatBytes(total)} a GPU; numerics: ${numerics}`,
      `    ${set.map((line) => `--set ${quoted(line)}`).join(' ')}`,
      ...(batch === undefined ? [] : [`    ${batch}`]),
    ]),
  ]);
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

function counted(count: number, thing: string): string {
  return `${count} ${thing}${count === 1 ? '' : 's'}`;
}

/** Small models take less than a duration shows. */
function paceText(seconds: number): string {
  return seconds < 0.1 ? `${(1000 * seconds).toFixed(1)} ms` : formatDuration(seconds);
}
