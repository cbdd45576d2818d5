/**
 * How long a run is, and where in its learning rate's course each update stands.
 *
 * A run begins with a course of `length` updates, as many as are planned. Where the records of an update or the length change on
 * the way, the course is neither begun anew nor cut off: from `anchor` on, the updates that are left go evenly over what is left
 * of it, so that no rate is jumped to and a warm-up that is over stays over. Plain JSON, kept in checkpoints.
 */

import type { EffectiveBatch, Recipe } from '../../config/index.js';
import { countUpdates, recordsDone, type Dataset, type Place } from '../../data/index.js';
import { schedule, type Schedule } from '../../optim/index.js';

export interface RunPlan {
  /** Updates of the run. */
  readonly planned: number;
  /** Updates of an epoch. */
  readonly perEpoch: number;
  /** Passes over the data when it ends. */
  readonly epochs: number;
  /** Records of an update. */
  readonly records: number;
  /** Records of all epochs together with which the run ends; `null` where updates are counted. */
  readonly until: number | null;
  readonly schedule: Recipe['schedule'];
  /** Of the course, in updates of the run as it began. */
  readonly length: number;
  readonly warmup: number;
  /** An update, from 0, and where in the course it stands. */
  readonly anchor: { readonly update: number; readonly position: number };
}

/** What of a data set decides how long a run is. */
type DataSize = Pick<Dataset, 'recordsPerEpoch'>;

/** The plan of a run that begins. */
export function planRun(
  { schedule }: Pick<Recipe, 'schedule'>,
  { records }: Pick<EffectiveBatch, 'records'>,
  { recordsPerEpoch }: DataSize,
): RunPlan {
  const until = schedule.updates === undefined ? lengthIn(schedule.epochs, recordsPerEpoch) : null;
  const planned = schedule.updates ?? countUpdates({ until: until! }, { recordsPerEpoch, records });
  const perEpoch = Math.ceil(recordsPerEpoch / records);
  return {
    ...{ planned, perEpoch, records, until, schedule },
    epochs: until === null ? planned / perEpoch : schedule.epochs,
    length: planned,
    warmup: schedule.warmupUpdates ?? Math.ceil(schedule.warmupRatio * planned),
    anchor: { update: 0, position: 0 },
  };
}

/** Records of so many epochs; never a record more since 0.1 has no exact double. */
function lengthIn(epochs: number, recordsPerEpoch: number): number {
  return Math.max(1, Math.ceil(epochs * recordsPerEpoch - 1e-6));
}

/** Where a run stands that goes on. */
export interface Standing {
  /** Updates done. */
  readonly update: number;
  readonly place: Place;
  /** The plan by which they were done. */
  readonly before: RunPlan;
}

/**
 * The plan of a run that goes on, perhaps with another batch or schedule than before.
 *
 * @param fresh what a run by the same recipe would begin with
 */
export function planRest(
  fresh: RunPlan,
  { update, place, before }: Standing,
  { recordsPerEpoch }: Pick<DataSize, 'recordsPerEpoch'>,
): RunPlan {
  const { records, until } = fresh;
  const from = recordsDone(place, recordsPerEpoch);
  const planned =
    until === null
      ? fresh.planned
      : update + countUpdates({ from, until }, { recordsPerEpoch, records });
  const epochs =
    until === null
      ? from / recordsPerEpoch + Math.max(0, planned - update) / fresh.perEpoch
      : fresh.epochs;
  const stood = positionAt(before, update);
  if (sameSchedule(fresh, before)) {
    const { length, warmup, anchor } = before;
    const kept = { ...fresh, planned, epochs, length, warmup };
    // To the bit as without the interruption.
    return planned === before.planned
      ? { ...kept, anchor }
      : { ...kept, anchor: { update, position: stood } };
  }
  // Another schedule is another course, of which so much is done as with this batch from the beginning.
  const done =
    until === null
      ? update
      : Math.floor(from / recordsPerEpoch) * fresh.perEpoch + (from % recordsPerEpoch) / records;
  const warm = stood >= before.warmup ? Math.max(done, fresh.warmup) : done;
  const position = Math.min(fresh.planned, warm);
  return { ...fresh, planned, epochs, anchor: { update, position } };
}

/** What has changed for a run that goes on, in a sentence; `undefined` where nothing has. */
export function describeChange(now: RunPlan, { update, before }: Standing): string | undefined {
  const batch = now.records !== before.records;
  const schedule = !sameSchedule(now, before);
  if (!batch && !schedule) return undefined;
  const what = [
    ...(batch ? [`${now.records} records an update in place of ${before.records}`] : []),
    ...(schedule ? ['another schedule'] : []),
  ];
  const left = Math.max(0, now.planned - update);
  const share = Math.min(100, Math.round((100 * positionAt(now, update)) / now.length));
  const length =
    now.until === null
      ? `${left} updates are left of the ${now.planned} asked for`
      : `${left} updates cover the records that are left`;
  return `from update ${update + 1} on ${what.join(' and ')}: ${length}, and the learning rate goes on at ${share} % of its course`;
}

/** The factor of the learning rate for each update of a plan. */
export function courseOf(plan: RunPlan): Schedule {
  const { schedule: settings, length, warmup } = plan;
  const factor = schedule({
    shape: settings.decay,
    updates: length,
    warmup,
    floor: settings.finalRatio,
  });
  return (update) => factor(positionAt(plan, update));
}

/** Where in the course an update stands. */
function positionAt({ planned, length, anchor }: RunPlan, update: number): number {
  const left = planned - anchor.update;
  const step = left > 0 ? (length - anchor.position) / left : 1;
  return anchor.position + (update - anchor.update) * step;
}

function sameSchedule(a: RunPlan, b: RunPlan): boolean {
  return JSON.stringify(a.schedule) === JSON.stringify(b.schedule);
}
