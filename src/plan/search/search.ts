/**
 * The search for what fits, or is faster: ways to hold weights and optimizer, each with the least change of activations under which it
 * fits, and those that are best with what memory they leave. All numbers are those of `plan()`.
 */

import { UsageError } from '../../base/errors.js';
import { checkRecipe, effectiveBatch, RecipeError, type Recipe } from '../../config/index.js';
import { modelConfigOf } from '../model-config.js';
import { planIfFits, type Plan, type PlanOptions } from '../plan.js';
import {
  AS_IT_IS,
  batchesOf,
  levelOf,
  LEVELS,
  methodsOf,
  narrowerOf,
  NUMERICS,
  shrinksOf,
  stagesOf,
  statesOf,
  together,
  type Change,
  type Numerics,
} from './changes.js';

/** A row of the table: a change, and what a plan says of it. */
export interface Suggestion {
  /** For `--set`, after what is set already. */
  readonly set: readonly string[];
  /** Peaks of a rank, bytes. */
  readonly allocated: number;
  readonly reserved: number;
  readonly total: number;
  readonly secondsPerUpdate: number;
  readonly numerics: Numerics;
  /** Of updates with other records than the recipe is meant for: how many, and what becomes of the learning rate. */
  readonly batch?: string;
}

export interface SearchOptions extends PlanOptions {
  /** After so many plans nothing further is tried. @default 20 */
  readonly most?: number;
  /** Before each plan. */
  readonly onPlan?: (done: number, change: Change) => void;
}

/** What the search makes of the recipe under a change. */
interface Row {
  readonly change: Change;
  readonly recipe: Recipe;
  readonly plan: Plan;
  /** Updates may differ in their records. */
  readonly secondsPerRecord: number;
}

const MOST = 20;
/** Rows of one kind that are shown. */
const SHOWN = 8;
/** Less is no gain that a plan could tell. */
const GAIN = 0.99;

/**
 * What fits, the fastest first, and what keeps the method before what does not.
 *
 * @param planned the plan of the recipe as it is
 * @throws those of `plan`, but for changes that the recipe excludes
 */
export async function suggest(
  recipe: Recipe,
  planned: Plan,
  options: SearchOptions,
): Promise<Suggestion[]> {
  const model = await modelConfigOf(recipe, options.signal);
  const { numHiddenLayers } = model.kind === 'text' ? model.config : model.config.text;
  const search = new Search(recipe, planned, { ...options, layers: numHiddenLayers });
  await search.run();
  return shown(search.rows)
    .filter(({ change }) => change.set.length > 0)
    .map(suggestionOf);
}

class Search {
  private readonly tried = new Map<string, Row | null>();
  /** What was planned only to know whether anything fits: more is changed than has to be. */
  private readonly asked = new Set<string>();
  private readonly most: number;
  /** Blocks of the decoder. */
  private readonly layers: number;

  constructor(
    private readonly recipe: Recipe,
    planned: Plan,
    private readonly options: SearchOptions & { readonly layers: number },
  ) {
    this.layers = options.layers;
    this.most = options.most ?? MOST;
    this.tried.set('', planned.fits ? this.rowOf(AS_IT_IS, recipe, planned) : null);
  }

  get rows(): Row[] {
    const rows = [...this.tried.values()].filter((row) => row !== null);
    return rows.filter(({ change }) => !this.asked.has(keyOf(change)));
  }

  async run(): Promise<void> {
    const { recipe } = this;
    const { gpus } = this.options;
    const methods = methodsOf(recipe, gpus);
    const kept = await this.settle(AS_IT_IS);
    const other = methods[0] === undefined ? null : await this.settle(methods[0]);
    if (kept !== null) await this.spend(kept);
    const ways: Row[] = [];
    for (const states of statesOf(recipe, gpus)) {
      // What changes more than the types and the place of states is for runs that fit in no other way.
      if (states.numerics === 'another method' && (kept !== null || ways.length > 0)) continue;
      const row = await this.settle(states);
      if (row !== null) ways.push(row);
    }
    for (const method of methods.slice(1)) await this.settle(method);
    if (other !== null) await this.spend(other);
    // These may be faster with what they leave.
    for (const row of fastestFirst(ways)) await this.spend(row);
  }

  /** The first stage of sharing under which a way to hold weights and optimizer fits, with as small a change of activations as that takes. */
  private async settle(place: Change): Promise<Row | null> {
    const base = this.recipeOf(place);
    if (base === null) return null;
    const stages = stagesOf(base, this.options.gpus).map((stage) => together(place, stage));
    const shrinks = shrinksOf(base, this.options.gpus);
    const first = await this.plan(stages[0]!);
    if (first !== null) return first;
    // What does not fit shared out most and with the least activations fits in no way between: plans are kept for other ways.
    const least = together(...stages, ...shrinks);
    if ((await this.plan(least)) === null) return null;
    const whole = await this.firstOf(stages);
    if (whole !== null) {
      if (keyOf(least) !== keyOf(whole.change)) this.asked.add(keyOf(least));
      return whole;
    }
    // Nothing fits as it is: the activations must take less.
    for (const stage of stages) {
      const steps = shrinks.map((_, i) => together(stage, ...shrinks.slice(0, i + 1)));
      const smallest = steps.at(-1);
      if (smallest === undefined || (await this.plan(smallest)) === null) continue;
      return this.firstOf(steps);
    }
    return null;
  }

  /** Memory that is left goes to activations that need not be computed again, and to larger micro-batches. */
  private async spend(from: Row): Promise<void> {
    const { gpus } = this.options;
    let best = await this.keepMore(from);
    const { less, more } = batchesOf(from.recipe, gpus);
    const larger = more.slice(0, 2);
    for (const each of larger) {
      const row = await this.better(best, each);
      if (row === best) break;
      best = row;
    }
    // Fewer records at a time, each of which keeps all.
    const [smaller] = less;
    if (smaller !== undefined && from.recipe.memory.policy !== 'keep') {
      best = await this.better(best, together(smaller, levelOf(from.recipe, 'keep')), from);
    }
    const [narrower] = best.recipe.parallel.zero === 0 ? [] : narrowerOf(best.recipe, gpus);
    if (narrower !== undefined) await this.better(best, narrower);
  }

  private async keepMore(from: Row): Promise<Row> {
    const { recipe, change } = from;
    const { policy, keepBlocks } = recipe.memory;
    const isPlain = typeof policy === 'string' && keepBlocks === 0;
    const own = isPlain ? LEVELS.indexOf(policy) : LEVELS.length;
    // The highest level that fits.
    let fits = 0;
    let best = from;
    for (; fits < own; fits++) {
      const row = await this.plan(together(change, levelOf(recipe, LEVELS[fits]!)));
      if (row === null) continue;
      best = faster(best, row);
      break;
    }
    const below = LEVELS[fits];
    if (fits === 0 || below === undefined || below === 'offload') return best;
    // Between it and the next, some blocks of the decoder are on the upper one.
    const level = LEVELS[fits - 1]!;
    for (const share of [0.75, 0.5, 0.25]) {
      const blocks = Math.floor(share * this.layers);
      if (blocks === 0) break;
      const row = await this.plan(together(change, levelOf(recipe, below, { level, blocks })));
      if (row !== null) return faster(best, row);
    }
    return best;
  }

  /** The row, or a faster one with that change of it, or of another. */
  private async better(row: Row, more: Change, from = row): Promise<Row> {
    const next = await this.plan(together(from.change, more));
    return next === null ? row : faster(row, next);
  }

  private async firstOf(changes: readonly Change[]): Promise<Row | null> {
    for (const change of changes) {
      const row = await this.plan(change);
      if (row !== null) return row;
    }
    return null;
  }

  /** @returns `null` for what does not fit, or is no recipe */
  private async plan(change: Change): Promise<Row | null> {
    const key = keyOf(change);
    const known = this.tried.get(key);
    if (known !== undefined) return known;
    const done = this.tried.size - 1;
    const recipe = this.recipeOf(change);
    if (recipe === null || done >= this.most) return null;
    this.options.onPlan?.(done, change);
    const plan = await excluded(() => planIfFits(recipe, this.options));
    const row = plan === null ? null : this.rowOf(change, recipe, plan);
    this.tried.set(key, row);
    return row;
  }

  private recipeOf({ set }: Change): Recipe | null {
    try {
      return checkRecipe(this.recipe, { set });
    } catch (error) {
      if (error instanceof RecipeError) return null;
      throw error;
    }
  }

  private rowOf(change: Change, recipe: Recipe, plan: Plan): Row {
    const { records } = effectiveBatch(recipe, this.options.gpus.count);
    return { change, recipe, plan, secondsPerRecord: plan.seconds.update / records };
  }
}

const keyOf = ({ set }: Change): string => set.join(' ');

/** `null` where the recipe cannot be followed so. */
async function excluded<T>(run: () => Promise<T>): Promise<T | null> {
  try {
    return await run();
  } catch (error) {
    if (error instanceof UsageError) return null;
    throw error;
  }
}

const faster = (row: Row, next: Row): Row =>
  next.secondsPerRecord < GAIN * row.secondsPerRecord ? next : row;

const changesMethod = ({ change }: Row): number => (change.numerics === 'another method' ? 1 : 0);

const fastestFirst = (rows: readonly Row[]): Row[] =>
  rows.toSorted((a, b) => a.secondsPerRecord - b.secondsPerRecord);

/** The fastest first; of those that a plan cannot tell apart by time what changes least. */
function leastFirst(rows: readonly Row[]): Row[] {
  const left = fastestFirst(rows);
  const sorted: Row[] = [];
  while (left.length > 0) {
    const [{ secondsPerRecord: fastest }] = left as [Row];
    const asFast = left.filter((row) => GAIN * row.secondsPerRecord <= fastest);
    sorted.push(
      ...asFast.toSorted((a, b) => numericsOf(a) - numericsOf(b) || linesOf(a) - linesOf(b)),
    );
    left.splice(0, asFast.length);
  }
  return sorted;
}

/** Without those that take more changes than another which is as fast and as small; those that keep the method first. */
function shown(rows: readonly Row[]): Row[] {
  const sorted = leastFirst(rows);
  const kept = sorted.filter((row, i) => !sorted.slice(0, i).some((other) => isNoMore(other, row)));
  return [0, 1].flatMap((method) =>
    kept.filter((row) => changesMethod(row) === method).slice(0, SHOWN),
  );
}

const numericsOf = ({ change }: Row): number => NUMERICS.indexOf(change.numerics);
const linesOf = ({ change }: Row): number => change.set.length;

function isNoMore(a: Row, b: Row): boolean {
  const trains = ({ recipe }: Row): string => JSON.stringify(recipe.train);
  return (
    numericsOf(a) <= numericsOf(b) &&
    trains(a) === trains(b) &&
    linesOf(a) <= linesOf(b) &&
    GAIN * a.plan.perRank[0]!.total <= b.plan.perRank[0]!.total
  );
}

function suggestionOf({ change, plan, recipe }: Row): Suggestion {
  const { allocated, reserved, total } = plan.perRank[0]!;
  const { learningRateScale, records, statement } = effectiveBatch(recipe, plan.ranks);
  const isOther = records !== (recipe.effectiveBatch ?? records) || learningRateScale !== 1;
  return {
    ...{ set: change.set, allocated, reserved, total },
    ...{ secondsPerUpdate: plan.seconds.update, numerics: change.numerics },
    ...(isOther ? { batch: statement } : {}),
  };
}
