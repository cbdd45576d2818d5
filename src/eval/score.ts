/** From answers to a score with its interval, and the comparison of two models on the same questions. */
import { DataError } from '../base/errors.js';
import { isAnswered, type Item } from './item.js';
import { bootstrap, type Interval, mcnemar, wilson } from './statistics.js';
import { type Graded, type Group, groupScore, type Harness, members, totalOf } from './task.js';

export interface Score {
  readonly score: number;
  /** At 95 %. */
  readonly interval: Interval;
  readonly intervalMethod: 'wilson' | 'bootstrap';
  /** Questions; of circular ones, each with all of its turns. */
  readonly n: number;
  readonly metrics: Readonly<Record<string, number>>;
  readonly categories: Readonly<Record<string, CategoryScore>>;
}

export interface CategoryScore extends Readonly<Record<string, number>> {
  readonly score: number;
  readonly n: number;
}

export function grade(items: readonly Item[], texts: readonly string[], by: Harness): Graded[] {
  return items.map((item, i) => ({ item, text: texts[i]!, ...by.grade(texts[i]!, item) }));
}

/**
 * @param graded at least one
 * @throws the signal's reason
 */
export async function score(
  graded: readonly Graded[],
  by: Harness,
  signal?: AbortSignal,
): Promise<Score> {
  const groups = grouped(graded);
  const { score, metrics = {} } = totalOf(by, groups);
  const scores = groups.map(groupScore);
  // A share of right answers has an interval by itself; what is made of several numbers is drawn again and again.
  const isShare = by.total === undefined && scores.every((each) => each === 0 || each === 1);
  const right = scores.filter((each) => each === 1).length;
  const interval = isShare
    ? wilson(right, scores.length)
    : await bootstrap(strata(alike(groups)), (drawn) => totalOf(by, drawn).score, { signal });
  return {
    score,
    interval,
    intervalMethod: isShare ? 'wilson' : 'bootstrap',
    n: by.total === undefined ? groups.length : graded.length,
    metrics,
    categories: Object.fromEntries(
      kinds(groups).map((kind) => {
        const own = groups.filter(([first]) => first!.item.categories.includes(kind));
        const total = totalOf(by, own, kind);
        const n = by.total === undefined ? own.length : members(own).length;
        return [kind, { score: total.score, n, ...total.metrics }];
      }),
    ),
  };
}

export interface Comparison {
  /** Questions on which only one of them is right, or is righter where answers may be right in part. */
  readonly onlyFirst: number;
  readonly onlySecond: number;
  /** McNemar's exact test, two-sided. */
  readonly p: number;
}

/** @param second the same items, in the same order */
export function compare(first: readonly Graded[], second: readonly Graded[]): Comparison {
  const [a, b] = [grouped(first).map(groupScore), grouped(second).map(groupScore)];
  if (a.length !== b.length) throw new RangeError('the models answered different questions');
  const onlyFirst = a.filter((each, i) => each > b[i]!).length;
  const onlySecond = a.filter((each, i) => each < b[i]!).length;
  return { onlyFirst, onlySecond, p: mcnemar(onlyFirst, onlySecond) };
}

/** In the order of their first items; within a group by numbers where ids are. */
function grouped(graded: readonly Graded[]): Group[] {
  const groups = new Map<string, Graded[]>();
  for (const each of graded) {
    const group = groups.get(each.item.group);
    if (group === undefined) groups.set(each.item.group, [each]);
    else group.push(each);
  }
  return [...groups.values()].map((group) =>
    group.sort((a, b) => Number(a.item.id) - Number(b.item.id) || 0),
  );
}

function kinds(groups: readonly Group[]): string[] {
  return [...new Set(groups.flatMap(([first]) => first!.item.categories))].sort();
}

/** For each group the first that counts as it does: of thousands that lie all over memory a thousand draws would take minutes. */
function alike(groups: readonly Group[]): Group[] {
  const first = new Map<string, Group>();
  return groups.map((group) => {
    const counted = group.map(({ extracted, score, item: { answers, categories } }) => {
      return [extracted, score, answers, categories];
    });
    const key = JSON.stringify(counted);
    const found = first.get(key) ?? group;
    first.set(key, found);
    return found;
  });
}

/** Each kind keeps its number of questions. */
function strata(groups: readonly Group[]): Group[][] {
  const strata = new Map<string, Group[]>();
  for (const group of groups) {
    const key = group[0]!.item.categories.join('\n');
    const stratum = strata.get(key);
    if (stratum === undefined) strata.set(key, [group]);
    else stratum.push(group);
  }
  return [...strata.values()];
}

/** @throws DataError `E_EVAL_DATA` for an item whose right answer the file does not give */
export function expectAnswered(items: readonly Item[], by: string): void {
  const without = items.find((item) => !isAnswered(item));
  if (without === undefined) return;
  throw new DataError(`${without.where} has no answer, so nothing can be scored by ${by}.`, {
    code: 'E_EVAL_DATA',
    hint: 'Give a file with answers; those of a test split are known to its server only.',
  });
}
