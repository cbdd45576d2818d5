/**
 * `plan(recipe, gpus)`: whether a run fits, where its memory is highest and what is alive there, how long it takes. The step program itself
 * runs, on tensors without memory.
 */

import { effectiveBatch, type EffectiveBatch, type Recipe } from '../config/index.js';
import { requireFp8 } from '../models/index.js';
import { planRun, type BetweenUpdates } from '../train/index.js';
import { heaviestBatches, worstBatches, type Lengths } from './batches.js';
import type { Moment } from './course.js';
import { betweenOf } from './between.js';
import {
  isCardBound,
  type Calibrated,
  type CalibratedTime,
  type Calibration,
} from './calibration/calibration.js';
import type { Category } from './categories.js';
import { asRank, type Card, type Gpus } from './devices/cards.js';
import { ghostSteps, oneAfterTheOther, type Ghost } from './ghost-run.js';
import { modelConfigOf } from './model-config.js';
import type { DataFacts, PlanData } from './plan-data.js';
import { Replay, replay, withinLimit, type Replayed } from './replay.js';
import { typicalTime, updateTime } from './update-time.js';

/** Share by which a plan's `allocated` may differ from what is measured: 56 configurations on one H200 differed by 0.5 % (2026-11-29-plan-h200.md). */
const INTERVAL = 0.03;

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
  /** What earlier runs on the card have measured. @default nothing */
  readonly calibration?: Calibration | undefined;
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
  readonly seconds: {
    readonly update: number;
    readonly run: number | null;
    /** Share of an update for which the card has work; the rest waits for the host. */
    readonly busy: number;
  };
  readonly tokensPerSecond: number;
  readonly accuracy: {
    readonly basis: string;
    /** Share by which `allocated` may be off. */
    readonly interval: number;
    /** What of the plan is taken from earlier runs on the card. */
    readonly calibration: Calibrated;
  };
}

const NOT_CALIBRATED: Calibrated = { context: null, time: null };

/**
 * Ranks hold equal shares and the same worst batch, so that one of them stands for all.
 *
 * @throws those of `modelConfigOf`; UsageError for a recipe that cannot be followed on so many GPUs; EnvironmentError `E_FP8_DEVICE`
 */
export async function plan(recipe: Recipe, options: PlanOptions): Promise<Plan> {
  return (await makePlan(recipe, options))!;
}

/**
 * The same plan, given up as soon as tensors alone take more than the card has: `null`, and so for all that does not fit.
 *
 * @throws those of `plan`
 */
export async function planIfFits(recipe: Recipe, options: PlanOptions): Promise<Plan | null> {
  const planned = await makePlan(recipe, options, { givesUp: true });
  return planned?.fits === true ? planned : null;
}

/** Bytes that the allocator of a process may reserve. */
export function limitOf({ memory }: Recipe, card: Card): number {
  return Math.min(card.memory - card.context, Math.floor((memory.limit ?? Infinity) * 2 ** 30));
}

/** @returns `null` where it gives up, as soon as tensors alone take more than the limit */
async function makePlan(
  recipe: Recipe,
  options: PlanOptions,
  { givesUp = false } = {},
): Promise<Plan | null> {
  const { gpus, lengths, data, expandable = false, signal } = options;
  const { count: ranks } = gpus;
  const earlier = options.calibration?.of(gpus.card, recipe, ranks) ?? NOT_CALIBRATED;
  const plain = asRank(gpus.card, ranks);
  const card: Card = { ...plain, context: earlier.context ?? plain.context };
  requireBases(recipe, card);
  const model = await modelConfigOf(recipe, signal);
  const batching = effectiveBatch(recipe, ranks);
  const found = data?.batches(recipe, batching, ranks);
  const { batches, microBatches, basis } =
    found === undefined
      ? worstBatches(recipe, { model, ranks, batching, lengths })
      : heaviestBatches(found);
  const limit = limitOf(recipe, card);
  const steps: Ghost[] = [];
  const replaying = { card, expandable, batches };
  const first = new Replay(replaying);
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
    if (givesUp && first.allocated > limit) return null;
  }
  const { lines, known } = oneAfterTheOther(steps);
  const free = first.result(known);
  options.onCourse?.(first.course(known, MOMENTS));
  const run = withinLimit(free, limit, () => replay(lines, known, { ...replaying, limit }));
  const total = run.reserved + card.context;
  const margin = limit - run.reserved;
  const { seconds, busy } =
    found === undefined
      ? updateTime(run, { recipe, ranks, ran: batches.length, microBatches })
      : await typicalTime(
          { batch: found.typical, microBatches: found.facts.microBatches },
          { recipe, model, card, ranks },
        );
  const time = isCardBound({ busy }) ? earlier.time : null;
  const update = seconds * (time?.factor ?? 1);
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
    seconds: { update, run: updates === null ? null : updates * update, busy },
    tokensPerSecond: (found?.facts.tokensPerUpdate ?? tokens * microBatches * ranks) / update,
    accuracy: accuracyOf(card, recipe, { ...earlier, time }),
  };
}

/** @throws EnvironmentError `E_FP8_DEVICE`, as a run on the card does */
function requireBases(
  { train: { vision, decoder } }: Recipe,
  { name, computeCapability: capability }: Card,
): void {
  const inFp8 = [vision, decoder].some((part) => typeof part === 'object' && part.base === 'fp8');
  if (inFp8) requireFp8({ name, capability });
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

function accuracyOf(
  { basis, name }: Card,
  { validation }: Recipe,
  calibration: Calibrated,
): Plan['accuracy'] {
  const { context, time } = calibration;
  const speed =
    basis === 'measured'
      ? `speeds fitted to steps on one ${name}`
      : `speeds of the ${name} as published, times the efficiency of an H200`;
  return {
    basis:
      'memory as the step program asks libtorch for it, held against peaks measured on an H200; ' +
      `the context is ${context === null ? 'what an H200 had' : 'the least that earlier runs on this card saw'}; ${speed}` +
      (time === null ? '' : calibratedText(time)) +
      (validation?.tasks.length ? '; answers to `validation.tasks` are not counted' : ''),
    interval: INTERVAL,
    calibration,
  };
}

function calibratedText({ factor, interval, runs, sameKind }: CalibratedTime): string {
  const which = sameKind ? 'runs of this kind' : 'runs';
  return `, calibrated by ${runs} ${which} on this card, ±${(100 * interval).toFixed(0)} % (they took ${factor.toFixed(2)} times as long)`;
}
