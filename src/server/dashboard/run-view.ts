/** One run as the page shows it: how it stands, what was told of it, when it will be done. Plain JSON. */
import { median } from '../../base/median.js';
import { byCause } from '../../guard/post-mortem/by-cause.js';
import type { TrainEvent } from '../../train/events.js';
import { ofType } from '../../train/run/logs.js';
import { isRunInUse, readRunRecipe } from '../../train/run/run-folder.js';
import { readRunFacts, type RunFacts } from '../../train/run/run-state.js';
import { curvesOf } from './curves.js';
import type { RunLog } from './run-log.js';
import type { RecipeDifference, RunCard, RunView, Told } from './shown.js';

/** Updates whose median is the pace. */
const PACE = 50;
const SPARK = 60;

/** Milliseconds after which what has been read so far is shown. */
export const PATIENCE = 250;

/** `undefined` where the folder holds no run. */
export async function runCard(log: RunLog, patience = PATIENCE): Promise<RunCard | undefined> {
  const [facts] = await Promise.all([readRunFacts(log.folder), log.refresh(patience)]);
  return facts && cardOf(log, facts);
}

function cardOf(log: RunLog, facts: RunFacts): RunCard {
  const { columns } = log;
  const crashed = facts.state === 'running' && !isRunInUse(log.folder);
  const state = crashed ? 'crashed' : facts.state;
  const updates = Math.max(facts.updates, columns.last ?? 0);
  const planned = facts.plannedUpdates ?? null;
  return {
    id: log.id,
    recipe: facts.recipe,
    state,
    reason: facts.reason ?? null,
    created: facts.created,
    changed: facts.changed,
    updates,
    planned,
    remaining: state === 'running' && planned !== null ? remaining(log, planned - updates) : null,
    loss: lossOf(log),
    losses: curvesOf(columns, { keys: ['loss'], points: SPARK }).series['loss']!.mean,
    version: log.version,
  };
}

export async function runView(log: RunLog): Promise<RunView | undefined> {
  const card = await runCard(log);
  if (card === undefined) return undefined;
  const newest = (type: string): Told | null => log.ofType(type).at(-1) ?? null;
  const all = <T extends TrainEvent['type']>(type: T) => ofType(log.ofType(type), type);
  const start = newest('start');
  const end = newest('end');
  return {
    ...card,
    folder: log.folder,
    keys: log.columns.keys,
    last: Object.fromEntries(log.columns.keys.map((key) => [key, lastOf(log, key)])),
    start,
    // One from before it went on is of the past.
    end: end !== null && isBefore(end, start) ? null : end,
    validations: log.ofType('validation'),
    scores: all('score').map(({ update, name, task, harness, score, interval, n }) => ({
      ...{ update, name, task, harness, score, interval, n },
    })),
    probes: log.ofType('probes'),
    checkpoints: log.ofType('checkpoint').slice(-20),
    warnings: [...log.ofType('warning'), ...unreadable(log)],
    badRecords: {
      count: log.counts.get('bad-record') ?? 0,
      last: all('bad-record').slice(-100),
    },
    diagnoses: byCause(all('diagnosis')),
    recoveries: all('recovery'),
    findings: ofType(
      log.ofType('finding').filter((each) => !isBefore(each, start)),
      'finding',
    ),
    memory: newest('memory'),
  };
}

/** What cannot be shown, as a warning of the run. */
function unreadable({ problems }: RunLog): Told[] {
  if (problems.length === 0) return [];
  return [{ type: 'warning', code: 'E_LOG_BROKEN', message: problems.join(' ') }];
}

function isBefore(event: Told, start: Told | null): boolean {
  return start !== null && String(event['time']) < String(start['time']);
}

/** From what updates took of late, so that a pause before a run went on does not count. */
function remaining({ columns }: RunLog, updates: number): number | null {
  const late = [...columns.column('seconds').slice(-PACE)].filter(Number.isFinite);
  if (late.length === 0) return null;
  return Math.max(0, updates) * median(late);
}

function lossOf(log: RunLog): RunCard['loss'] {
  const { last, marks } = log.columns;
  const broken = marks
    .slice(-2)
    .some(({ update, kind }) => update === last && kind === 'not-finite');
  return lastOf(log, 'loss') ?? (broken ? 'not finite' : null);
}

/** `null` where nothing finite was measured. */
function lastOf({ columns }: RunLog, key: string): number | null {
  const value = columns.column(key).at(-1);
  return value === undefined || !Number.isFinite(value) ? null : value;
}

/** What is not the same in the recipes of runs. */
export async function recipeDifferences(folders: readonly string[]): Promise<RecipeDifference[]> {
  const recipes = await Promise.all(
    folders.map(async (folder) => new Map(flat(await readRunRecipe(folder)))),
  );
  const fields = new Set(recipes.flatMap((recipe) => [...recipe.keys()]));
  return [...fields].flatMap((field) => {
    const values = recipes.map((recipe) => recipe.get(field));
    const same = values.every((value) => JSON.stringify(value) === JSON.stringify(values[0]));
    return same ? [] : [{ field, values: values.map((value) => value ?? null) }];
  });
}

/** Leaves by dotted name; lists are leaves. */
function* flat(value: unknown, name = ''): Generator<[string, unknown]> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    yield [name, value];
    return;
  }
  for (const [key, each] of Object.entries(value)) {
    yield* flat(each, name === '' ? key : `${name}.${key}`);
  }
}
