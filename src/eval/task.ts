/** What a benchmark is: how its questions are put, how an answer is graded, how grades become a score. */
import type { Item } from './item.js';

/** What a harness makes of one answer. */
export interface Grade {
  /** What it took the answer to say. */
  readonly extracted: string;
  /** From 0 to 1. */
  readonly score: number;
}

export interface Graded extends Grade {
  readonly item: Item;
  readonly text: string;
}

/** Answers to items that belong together, the first item first. */
export type Group = readonly Graded[];

/** The score of some groups, and what belongs to it. */
export interface Total {
  readonly score: number;
  readonly metrics?: Readonly<Record<string, number>> | undefined;
}

/** One program's way of a task. */
export interface Harness {
  /** The question as the model is asked. */
  prompt(item: Item): string;
  /** Most tokens of an answer. */
  readonly maxNewTokens: number;
  grade(text: string, item: Item): Grade;
  /**
   * Made of what is extracted, its score, and what is right and of which kinds, and nothing else of an answer.
   *
   * @param groups at least one
   * @param kind the category that all of them are of, if one alone is counted
   * @default the mean of `groupScore`
   */
  total?: ((groups: readonly Group[], kind?: string) => Total) | undefined;
  /** What is told beside that mean. @default nothing */
  metrics?: ((groups: readonly Group[]) => Readonly<Record<string, number>>) | undefined;
}

export type HarnessName = 'llava' | 'vlmevalkit' | 'lmms-eval' | 'xtuner';

export interface Task {
  readonly name: string;
  /** What it asks, in a few words. */
  readonly summary: string;
  /** The first one is the default. */
  readonly harnesses: Readonly<Partial<Record<HarnessName, Harness>>>;
  /** Where the data are had. */
  readonly source: string;
  /** What a file must have. */
  readonly fields: string;
  /** What sets its items apart from those of any file: their groups, their categories. */
  readonly refine?: ((item: Item) => Item) | undefined;
}

/** A group is as right as its worst item. */
export function groupScore(group: Group): number {
  let least = Infinity;
  for (const { score } of group) least = Math.min(least, score);
  return least;
}

/** The answers of all groups; a loop, since a score is drawn a thousand times. */
export function members(groups: readonly Group[]): Graded[] {
  const all: Graded[] = [];
  for (const group of groups) for (const each of group) all.push(each);
  return all;
}

export function mean(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length;
}

export function totalOf(
  { total, metrics }: Harness,
  groups: readonly Group[],
  kind?: string,
): Total {
  return (
    total?.(groups, kind) ?? { score: mean(groups.map(groupScore)), metrics: metrics?.(groups) }
  );
}
