/**
 * `plan(recipe, gpus)`: whether a run fits, where its memory is highest and what is alive there, how long it takes. The step program itself
 * runs, on tensors without memory.
 */

import { effectiveBatch, type EffectiveBatch, type Recipe } from '../config/index.js';
import { planRun, type BetweenUpdates } from '../train/index.js';
import { heaviestBatches, repeated, worstBatches, type Lengths } from './batches.js';
import type { Moment } from './course.js';
import { betweenOf } from './between.js';
import type { Category } from './categories.js';
import type { Card, Gpus } from './devices/cards.js';
import {
  ghostRun,
  ghostSteps,
  oneAfterTheOther,
  type Ghost,
  type GhostOptions,
} from './ghost-run.js';
import { modelConfigOf } from './model-config.js';
import type { DataBatches, DataFacts, PlanData } from './plan-data.js';
import { Replay, replay, withinLimit, type Replayed } from './replay.js';

/**
 * Share by which a plan's `allocated` may differ from what is measured (src/plan/measured.test.ts): one card's rows differ by 0.5 %
 * at most, those of an optimizer in host memory by 12 and 25 %.
 */
const INTERVAL = { resident: 0.03, offload: 0.25 };

export interface PlanOptions {
  readonly gpus: Gpus;
  /** Lengths of the records. @default the longest that the recipe allows */
  readonly lengths?: Lengths;
  /** The recipe's own data, in place of lengths. */
  readonly data?: PlanData | undefined;
  /** What comes between updates; `null`: nothing. @default what the recipe says, with records as heavy as those of updates */
  readonly between?: BetweenUpdates | null | undefined;
  /** `expandable_segments:True` of libtorch's allocator. @default false */
  readonly expandable?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** Gets memory through the last update. @default nobody draws it */
  readonly onCourse?: ((moments: readonly Moment[]) => void) | undefined;
}

/** Moments of a course: columns of a picture. */
const MOMENTS = 360;

export interface RankPlan {
  readonly rank: number;
  /** Peaks, bytes. */
  readonly allocated: number;
  readonly reserved: number;
  /** What `nvidia-smi` would show for the process. */
  readonly total: number;
  /** Page-locked host memory. */
  readonly host: number;
  /** In which most is allocated. */
  readonly phase: string;
  readonly atPeak: Readonly<Record<Category, number>>;
}

export interface Plan {
  readonly recipe: string;
  readonly gpu: { readonly name: string; readonly memory: number };
  readonly ranks: number;
  readonly fits: boolean;
  /** Bytes that are left on the fullest rank; negative: that are missing. */
  readonly margin: number;
  readonly perRank: readonly RankPlan[];
  readonly timeline: Replayed['timeline'];
  readonly largest: Replayed['largest'];
  /** The micro-batch that was planned for. */
  readonly batch: {
    readonly records: number;
    readonly tokens: number;
    readonly images: number;
    /** Of an update on one GPU; with data, on average. */
    readonly microBatches: number;
    readonly basis: string;
  };
  /** What the data say of updates; `null` where they were not asked. */
  readonly data: DataFacts | null;
  /** Of an update, with data of one that is typical of them; and of all of the run. */
  readonly seconds: { readonly update: number; readonly run: number | null };
  readonly tokensPerSecond: number;
  readonly accuracy: { readonly basis: string; readonly interval: number };
}

/**
 * Ranks hold equal shares and the same worst batch, so that one of them stands for all.
 *
 * @throws those of `modelConfigOf`; UsageError for a recipe that cannot be followed on so many GPUs
 */
export async function plan(recipe: Recipe, options: PlanOptions): Promise<Plan> {
  return (await planUntil(recipe, options, Infinity))!;
}

/**
 * The same plan, given up as soon as tensors alone take more than the card has: `null`, and so for all that does not fit.
 *
 * @throws those of `plan`
 */
export async function planIfFits(recipe: Recipe, options: PlanOptions): Promise<Plan | null> {
  const planned = await planUntil(recipe, options, limitOf(recipe, options.gpus.card));
  return planned?.fits === true ? planned : null;
}

/** Bytes that the allocator of a process may reserve. */
export function limitOf({ memory }: Recipe, card: Card): number {
  return Math.min(card.memory - card.context, Math.floor((memory.limit ?? Infinity) * 2 ** 30));
}

/** @returns `null` where more than `bound` is allocated at some time */
async function planUntil(
  recipe: Recipe,
  options: PlanOptions,
  bound: number,
): Promise<Plan | null> {
  const { gpus, lengths, data, expandable = false, signal } = options;
  const { card, count: ranks } = gpus;
  const model = await modelConfigOf(recipe, signal);
  const batching = effectiveBatch(recipe, ranks);
  const found = data?.batches(recipe, batching, ranks);
  const { batches, microBatches, basis } =
    found === undefined
      ? worstBatches(recipe, { model, ranks, batching, lengths })
      : heaviestBatches(found);
  const limit = limitOf(recipe, card);
  const steps: Ghost[] = [];
  const first = new Replay({ card, expandable });
  const between =
    options.between === undefined
      ? betweenOf(recipe, {
          ...{ model, batch: batches[0]! },
          ...{ validation: found?.validation, probes: data?.probes },
        })
      : (options.between ?? undefined);
  for await (const step of ghostSteps({ recipe, model, card, ranks, batches, between })) {
    signal?.throwIfAborted();
    steps.push(step);
    first.take(step.lines);
    if (first.allocated > bound) return null;
  }
  const { lines, known } = oneAfterTheOther(steps);
  const free = first.result(known);
  options.onCourse?.(first.course(known, MOMENTS));
  const run = withinLimit(free, limit, () => replay(lines, known, { card, expandable, limit }));
  const total = run.reserved + card.context;
  const margin = limit - run.reserved;
  const update =
    found === undefined
      ? secondsOf(run, batches.length, microBatches)
      : await typicalSeconds(found, { recipe, model, card, ranks });
  const tokens = batches[0]!.reduce((sum, each) => sum + each.tokens, 0);
  const of: Omit<RankPlan, 'rank'> = {
    ...{ allocated: run.allocated, reserved: run.reserved, total, host: run.host },
    ...{ phase: run.phase, atPeak: run.atPeak },
  };
  const updates = found?.facts.updates ?? updatesOf(recipe, batching, lengths);
  return {
    recipe: recipe.name,
    gpu: { name: card.name, memory: card.memory },
    ...{ ranks, fits: margin >= 0, margin },
    perRank: Array.from({ length: ranks }, (_, rank) => ({ rank, ...of })),
    ...{ timeline: run.timeline, largest: run.largest },
    batch: {
      ...{ records: batches[0]!.length, tokens, microBatches, basis },
      images: batches[0]!.reduce((sum, each) => sum + each.images, 0),
    },
    data: found?.facts ?? null,
    seconds: { update, run: updates === null ? null : updates * update },
    tokensPerSecond: (found?.facts.tokensPerUpdate ?? tokens * microBatches * ranks) / update,
    accuracy: accuracyOf(card, recipe),
  };
}

/** What is known of the length of a run without its data. */
function updatesOf(
  recipe: Recipe,
  batching: EffectiveBatch,
  lengths: Lengths | undefined,
): number | null {
  if (lengths === undefined) return recipe.schedule.updates ?? null;
  return planRun(recipe, batching, { recordsPerEpoch: lengths.length }).planned;
}

/** Of an update whose micro-batches are as long as they are on average. */
async function typicalSeconds(
  { typical, facts: { microBatches } }: DataBatches,
  options: Omit<GhostOptions, 'batches'>,
): Promise<number> {
  const batches = repeated(typical, microBatches);
  const { lines, known } = await ghostRun({ ...options, batches });
  return secondsOf(replay(lines, known, options), batches.length, microBatches);
}

/** Of an update with so many micro-batches, by the last one of a ghost run with few. */
function secondsOf(
  { updates, perMicroBatch }: Replayed,
  ran: number,
  microBatches: number,
): number {
  return updates.at(-1)! + (microBatches - ran) * perMicroBatch;
}

function accuracyOf({ basis, name }: Card, { parallel, validation }: Recipe): Plan['accuracy'] {
  const speed =
    basis === 'measured'
      ? `speeds fitted to steps on one ${name}`
      : `speeds of the ${name} as published, times the efficiency of an H200`;
  return {
    basis:
      'memory in tensors as the step program asks for it, held against peaks measured on H200; ' +
      `what is reserved was within 6 % in shallow runs there, the context was not measured; ${speed}` +
      (validation?.tasks.length ? '; answers to `validation.tasks` are not counted' : ''),
    interval: parallel.offload === 'none' ? INTERVAL.resident : INTERVAL.offload,
  };
}
