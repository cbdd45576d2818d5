/** A configuration of `bench/plan.ts` as the planner sees it, and as a card does. */

import { OutOfMemoryError } from '../src/base/errors.js';
import { median } from '../src/base/median.js';
import { effectiveBatch } from '../src/config/index.js';
import type { World } from '../src/parallel/index.js';
import { worstBatches } from '../src/plan/batches.js';
import { CARDS, cardOf, isExpandable } from '../src/plan/devices/cards.js';
import { modelConfigOf } from '../src/plan/model-config.js';
import { plan } from '../src/plan/plan.js';
import { hollowModel } from '../src/plan/shape-model.js';
import { shapeSteps } from '../src/plan/shape-run.js';
import {
  bytesBeside,
  chooseDevice,
  memoryStats,
  resetPeak,
  setMemoryLimit,
  tensor,
  type ChosenDevice,
} from '../src/torch/index.js';
import { choosePrecision } from '../src/train/prepare/precision.js';
import { aloneGroups, openRankGroups, type RankGroups } from '../src/train/step/rank-groups.js';
import { betweenOf, recipeOf, recordsOf, type PlanConfig } from './plan-config.js';

/** Bytes, and seconds an update. */
export interface Figures {
  readonly allocated: number;
  readonly reserved: number;
  /** What the process takes of the card, as `nvidia-smi` shows it; `null` on the CPU. */
  readonly total: number | null;
  /** Of that, what is not the allocator's. */
  readonly context: number | null;
  readonly seconds: number;
}

export interface Predicted extends Figures {
  readonly fits: boolean;
  /** Share of an update for which the card has work. */
  readonly busy: number;
}

/** `failed`: why there are no figures; out of memory is an answer too. */
export type Measured = Figures | { readonly failed: string };

/** The same of a process that others ran beside on its card: nothing is known of its time, nor of what is not the allocator's. */
export interface SharedFigures extends Omit<Figures, 'seconds'> {
  readonly seconds: null;
}

export const OUT_OF_MEMORY = 'out of memory';

export async function predict(config: PlanConfig, device: string): Promise<Predicted> {
  // An H200 where there is no GPU.
  const card = device === 'cpu' ? CARDS[0]! : cardOf(chooseDevice(device));
  const recipe = recipeOf(config);
  const planned = await plan(recipe, {
    gpus: { count: config.ranks, card },
    lengths: recordsOf(config),
    between: betweenOf(config, recipe, await modelConfigOf(recipe)),
    expandable: isExpandable(process.env),
  });
  const { allocated, reserved, total } = planned.perRank[0]!;
  const { update: seconds, busy } = planned.seconds;
  const { fits } = planned;
  return { allocated, reserved, total, context: total - reserved, seconds, busy, fits };
}

export async function measureAlone(config: PlanConfig, device: string): Promise<Measured> {
  const { offload } = recipeOf(config).parallel;
  const groups = offload === 'none' ? null : await aloneGroups();
  const largest = (number: number): Promise<number> => Promise.resolve(number);
  try {
    return await measure(config, chooseDevice(device), { groups, ranks: 1, largest });
  } catch (error) {
    if (error instanceof OutOfMemoryError) return { failed: OUT_OF_MEMORY };
    throw error;
  }
}

/** Largest over the ranks; all of them call it. @throws OutOfMemoryError on a rank whose memory does not suffice */
export async function measureRank(config: PlanConfig, world: World): Promise<Figures> {
  const { parallel } = recipeOf(config);
  const groups = await openRankGroups(world, { ...parallel, stage: parallel.zero });
  const device = chooseDevice(world.device);
  const largestOf = async (figures: number[], label: string): Promise<number[]> => {
    using most = tensor(figures, { dtype: 'float64' }).to({ device: world.device }).keep();
    await world.group.allReduce(most, { label, reduction: 'max' }).wait();
    return [...most.to({ device: 'cpu' }).toTypedArray()].map(Number);
  };
  const largest = async (number: number): Promise<number> =>
    (await largestOf([number], 'updates'))[0]!;
  const own = await measure(config, device, { groups, ranks: world.size, largest });
  const { total, context } = own;
  const figures = [own.allocated, own.reserved, total ?? 0, context ?? 0, own.seconds];
  const [a, r, t, c, s] = await largestOf(figures, 'figures');
  return {
    ...{ allocated: a!, reserved: r!, seconds: s! },
    ...{ total: total === null ? null : t!, context: context === null ? null : c! },
  };
}

interface Place {
  readonly groups: RankGroups | null;
  readonly ranks: number;
  /** The largest number that any of the ranks gives. */
  readonly largest: (number: number) => Promise<number>;
}

/** Of updates that follow one another the fourth is the first to be timed: with it the numbers of the third are read, and the host is at its speed. */
const BEFORE = 3;
/** For about so many seconds updates are timed. */
const TIMED = { seconds: 1, atLeast: 3, atMost: 40 };

async function measure(
  config: PlanConfig,
  chosen: ChosenDevice,
  { groups, ranks, largest }: Place,
): Promise<Figures> {
  const { device } = chosen;
  const recipe = recipeOf(config);
  const precision = choosePrecision(recipe.precision, chosen);
  const described = await modelConfigOf(recipe);
  const { batches, microBatches } = worstBatches(recipe, {
    ...{ model: described, ranks, batching: effectiveBatch(recipe, ranks) },
    lengths: recordsOf(config),
  });
  const model = hollowModel(described, { recipe, device: chosen, precision });
  const limit = recipe.memory.limit ?? null;
  if (limit !== null) setMemoryLimit(device, limit * 2 ** 30);
  resetPeak(device);
  const times: number[] = [];
  let last: number | null = null;
  // Until it is known how long one takes.
  let updates = Math.max(BEFORE + TIMED.atMost, config.updates);
  const shape = { recipe, model, device: chosen, precision, groups, ranks };
  const filled = Array<(typeof batches)[number]>(microBatches).fill(batches[0]!);
  try {
    const between = betweenOf(config, recipe, described) ?? undefined;
    const steps = shapeSteps({ ...shape, updates, batches: filled, between });
    for await (const { what } of steps) {
      const now = performance.now();
      if (last !== null && what === 'update') times.push((now - last) / 1000);
      last = now;
      if (times.length === BEFORE) {
        const wanted = Math.ceil(TIMED.seconds / times.at(-1)!);
        const timed = Math.min(Math.max(wanted, TIMED.atLeast), TIMED.atMost);
        updates = Math.max(BEFORE + (await largest(timed)), config.updates);
      }
      if (times.length >= updates) break;
    }
  } finally {
    model.dispose();
    setMemoryLimit(device, null);
  }
  const { peakAllocated: allocated, peakReserved: reserved } = memoryStats(device);
  const context = bytesBeside(device);
  const total = context === null ? null : reserved + context;
  return { allocated, reserved, total, context, seconds: median(times.slice(BEFORE)) };
}
