/** The course of memory through one update: how much of it is for what, from one allocation to the next. */

import { categoryOf, nameOf, type Category, type Known, type Life } from './categories.js';
import type { Phase } from './timeline.js';

/** From the bottom up. */
export const GROUPS = ['weights', 'states', 'gradients', 'activations', 'workspace'] as const;

export type Group = (typeof GROUPS)[number];

const GROUP_OF: Readonly<Record<Category, Group>> = {
  'frozen weights': 'weights',
  'trained weights': 'weights',
  masters: 'states',
  optimizer: 'states',
  gradients: 'gradients',
  boundaries: 'activations',
  'kept activations': 'activations',
  head: 'activations',
  input: 'activations',
  workspace: 'workspace',
  communication: 'workspace',
};

export function groupOf(category: Category): Group {
  return GROUP_OF[category];
}

/** One of equal stretches of the update, as it is where most is alive within it. */
export interface Moment {
  readonly phase: Phase;
  /** Bytes. */
  readonly alive: Readonly<Record<Group, number>>;
}

export interface CourseParts {
  readonly lives: ReadonlyMap<number, Life>;
  /** What lasting tensors are, by block. */
  readonly known: ReadonlyMap<number, Known>;
  /** Where phases begin, in allocations and frees. */
  readonly moves: readonly { readonly at: number; readonly phase: Phase }[];
  /** Of the update: after the first so many allocations and frees, to the second. */
  readonly from: number;
  readonly to: number;
}

/** What a life is, by what lies in its block, else by how long it lasts. */
export function kindOf(life: Life, known: Known | undefined): Known {
  return known ?? { category: categoryOf(life), name: nameOf(life) };
}

/** @returns at most so many moments; none where the update allocated nothing */
export function courseOf({ lives, known, moves, from, to }: CourseParts, most: number): Moment[] {
  const changes: { at: number; group: Group; bytes: number }[] = [];
  const alive = Object.fromEntries(GROUPS.map((group) => [group, 0])) as Record<Group, number>;
  for (const [block, life] of lives) {
    const group = groupOf(kindOf(life, known.get(block)).category);
    const { bytes } = life;
    if (life.from <= from && life.until > from) alive[group] += bytes;
    if (life.from > from && life.from <= to) changes.push({ at: life.from, group, bytes });
    if (life.until > from && life.until <= to)
      changes.push({ at: life.until, group, bytes: -bytes });
  }
  changes.sort((a, b) => a.at - b.at);
  const width = Math.max(1, (to - from) / most);
  const moments: Moment[] = [];
  let [highest, column] = [-1, -1];
  for (const { at, group, bytes } of changes) {
    alive[group] += bytes;
    const own = Math.floor((at - from - 1) / width);
    if (own !== column) [highest, column] = [-1, own];
    const total = GROUPS.reduce((sum, each) => sum + alive[each], 0);
    if (total <= highest) continue;
    if (highest >= 0) moments.pop();
    highest = total;
    moments.push({ phase: phaseAt(moves, at), alive: { ...alive } });
  }
  return moments;
}

function phaseAt(moves: CourseParts['moves'], at: number): Phase {
  let [low, high] = [0, moves.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (moves[middle]!.at < at) low = middle + 1;
    else high = middle;
  }
  return moves[Math.max(0, low - 1)]!.phase;
}
