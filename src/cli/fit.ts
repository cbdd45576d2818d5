/** `patina train --fit`: the least change with which a recipe fits the GPUs that it is to run on. */
import { formatBytes, formatPace } from '../base/format.js';
import { OutOfMemoryError, UsageError } from '../base/errors.js';
import type { Recipe } from '../config/index.js';
import type { Calibration } from '../plan/calibration/calibration.js';
import type { Gpus } from '../plan/devices/cards.js';
import { cardOf, isExpandable } from '../plan/devices/cards.js';
import { plan } from '../plan/plan.js';
import { suggest, type Suggestion } from '../plan/search/search.js';
import { chooseDevice } from '../torch/index.js';
import { openCalibration } from './calibration.js';
import type { Session } from './session.js';
import { withPlanProgress } from './plan-progress.js';

/** `any`: another method too, such as LoRA in place of full training. */
export type Fit = true | 'any';

/** What was chosen: a line of `patina train --json` too. */
export interface Fitted {
  readonly type: 'fit';
  /** For `--set`; nothing where the recipe fits as it is. */
  readonly set: readonly string[];
  readonly numerics: Suggestion['numerics'];
  /** Bytes of a process, as planned, and of its card. */
  readonly total: number;
  readonly memory: number;
  readonly secondsPerUpdate: number;
}

export interface FitOptions {
  readonly fit: Fit;
  readonly gpus: Gpus;
  readonly expandable?: boolean;
  /** What earlier runs have measured. @default nothing */
  readonly calibration?: Calibration | undefined;
  readonly signal?: AbortSignal;
  /** What is planned at the moment. */
  readonly onPlan?: (set: readonly string[]) => void;
}

/** @throws UsageError `E_FIT_DEVICE` without a GPU */
export function gpusHere({ device }: Recipe, count: number): Gpus {
  const chosen = chooseDevice(device);
  if (chosen.device === 'cpu') {
    throw new UsageError('--fit looks for what fits GPUs, and this run is on the CPU', {
      code: 'E_FIT_DEVICE',
      hint: 'Leave out --fit, or see with `patina plan RECIPE --gpus 8xA100-40GB` what would fit where.',
    });
  }
  return { count, card: cardOf(chosen) };
}

/**
 * Plans a recipe, with records as long as it allows; where it does not fit, the fastest of the changes that do, of those that keep the
 * method unless any may be taken.
 *
 * @throws OutOfMemoryError `E_NO_FIT`; those of `plan`
 */
export async function fitRecipe(
  recipe: Recipe,
  { fit, gpus, expandable = false, calibration, signal, onPlan }: FitOptions,
): Promise<Fitted> {
  const options = { gpus, expandable, calibration, signal };
  onPlan?.([]);
  const planned = await plan(recipe, options);
  const { memory } = gpus.card;
  if (planned.fits) {
    const { total } = planned.perRank[0]!;
    const secondsPerUpdate = planned.seconds.update;
    return { type: 'fit', set: [], numerics: 'none', total, memory, secondsPerUpdate };
  }
  const rows = await suggest(recipe, planned, {
    ...options,
    onPlan: (_, { set }) => onPlan?.(set),
  });
  const best = rows.find(({ numerics }) => fit === 'any' || numerics !== 'another method');
  if (best === undefined) throw noFit(recipe, gpus, rows);
  const { set, numerics, total, secondsPerUpdate } = best;
  return { type: 'fit', set, numerics, total, memory, secondsPerUpdate };
}

function noFit({ name }: Recipe, { card, count }: Gpus, rows: readonly Suggestion[]): Error {
  const [other] = rows;
  const where = `${count} x ${card.name} (${formatBytes(card.memory)})`;
  return new OutOfMemoryError(`nothing that keeps the method of ${name} fits ${where}`, {
    code: 'E_NO_FIT',
    hint:
      other === undefined
        ? 'Take more GPUs, or larger ones.'
        : `Another method would: ${setText(other.set)}, which --fit any takes; or take more GPUs.`,
  });
}

/** The same on this machine, told as it goes; what it gives is to be set. */
export async function fitHere(
  recipe: Recipe,
  options: { fit: Fit; processes: number; json: boolean; signal: AbortSignal },
  session: Session,
): Promise<readonly string[]> {
  const { fit, processes, json, signal } = options;
  const gpus = gpusHere(recipe, processes);
  const expandable = isExpandable(process.env);
  const calibration = await openCalibration(session);
  const fitted = await withPlanProgress(session, (onPlan) =>
    fitRecipe(recipe, { fit, gpus, expandable, calibration, signal, onPlan }),
  );
  if (json) session.stdout.write(`${JSON.stringify(fitted)}\n`);
  else session.stderr.write(`${fittedText(fitted)}\n`);
  return fitted.set;
}

export function fittedText({ set, numerics, total, memory, secondsPerUpdate }: Fitted): string {
  const planned = `planned: ${formatBytes(total)} of ${formatBytes(memory)}, ${formatPace(secondsPerUpdate)} an update`;
  if (set.length === 0) return `fits as it is (${planned})`;
  const changes = { none: 'the same numbers', rounding: 'the same but for rounding' };
  const what = numerics === 'another method' ? 'another method' : changes[numerics];
  return `made to fit by ${setText(set)}: ${what} (${planned})`;
}

const setText = (set: readonly string[]): string => set.map((each) => `--set ${each}`).join(' ');
