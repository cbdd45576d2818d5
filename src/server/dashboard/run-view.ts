/** One run as the page shows it: how it stands, what was told of it, when it will be done. Plain JSON. */
import { basename } from 'node:path';

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
    id: basename(log.folder),
    recipe: facts.recipe,
    state,
    reason: facts.reason ?? null,
    created: facts.created,
    changed: facts.changed,
    updates,
    planned,
    remaining: state === 'running' && planned !== null ? remaining(log, planned - updates) : null,
    loss: lastOf(log, 'loss'),
    losses: curvesOf(columns, { keys: ['loss'], points: SPARK }).series['loss']!.mean,
    version: log.version,
  };
}

export async function runView(log: RunLog): Promise<RunView | undefined> {
  const card = await runCard(log);
  if (card === undefined) return undefined;
  const newest = (type: string): Told | null => log.ofType(type).at(-1) ?? null;
  const start = newest('start');
  const end = newest('end');
  return {
    ...card,
    folder: log.folder,
    keys: log.columns.keys,
    last: Object.fromEntries(log.columns.keys.map((key) => [key, lastOf(log, key)])),
    start,
    // One from before it went on is of the past.
    end: end !== null && start !== null && String(end['time']) < String(start['time']) ? null : end,
    validations: log.ofType('validation'),
    probes: log.ofType('probes'),
    checkpoints: log.ofType('checkpoint').slice(-20),
    warnings: log.ofType('warning'),
    badRecords: {
      count: log.counts.get('bad-record') ?? 0,
      last: log.ofType('bad-record').slice(-100),
    },
    diagnoses: log.ofType('diagnosis'),
    recoveries: log.ofType('recovery'),
    memory: newest('memory'),
  };
}

/** From what updates took of late, so that a pause before a run went on does not count. */
function remaining({ columns }: RunLog, updates: number): number | null {
  const late = [...columns.column('seconds').slice(-PACE)].filter(Number.isFinite);
  if (late.length === 0) return null;
  late.sort((a, b) => a - b);
  return Math.max(0, updates) * late[late.length >> 1]!;
}

function lastOf({ columns }: RunLog, key: string): number | null {
  const value = columns.column(key).at(-1);
  return value === undefined || Number.isNaN(value) ? null : value;
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
