/**
 * Curves of any length in few points: equal spans of updates, each with its smallest, largest and mean value, so that no peak is
 * lost, and where values were not finite or updates were skipped.
 */
import type { Columns, Mark } from './columns.js';

export interface CurvesQuery {
  readonly keys: readonly string[];
  /** First update. @default the first there is */
  readonly from?: number | undefined;
  /** Last update. @default the last there is */
  readonly to?: number | undefined;
  /** Most points. @default 600 */
  readonly points?: number | undefined;
  /** Weight of what came before in a running mean, from 0 and below 1. @default 0, none is made */
  readonly smoothing?: number | undefined;
}

/** `null` where a span has no finite value. */
export type Values = readonly (number | null)[];

export interface Curve {
  readonly mean: Values;
  /** Left out where every span is one update. */
  readonly low?: Values;
  readonly high?: Values;
  /** Running mean at the end of each span, where it was asked for. */
  readonly smooth?: Values;
}

/** Neighbouring spans in which something went wrong. */
export interface Gap {
  readonly kind: Mark['kind'];
  readonly from: number;
  readonly to: number;
  readonly updates: number;
}

export interface Curves {
  /** Last update of each span. */
  readonly updates: readonly number[];
  readonly series: Readonly<Record<string, Curve>>;
  readonly gaps: readonly Gap[];
}

export const POINTS = 600;

export function curvesOf(columns: Columns, query: CurvesQuery): Curves {
  const { updates } = columns;
  const begin = lowerBound(updates, query.from ?? -Infinity);
  const end = lowerBound(updates, (query.to ?? Infinity) + 1);
  const points = Math.max(1, Math.floor(query.points ?? POINTS));
  const size = Math.max(1, Math.ceil((end - begin) / points));
  const spans: [number, number][] = [];
  for (let at = begin; at < end; at += size) spans.push([at, Math.min(end, at + size)]);
  const series = Object.fromEntries(
    query.keys.map((key) => [key, curveOf(columns.column(key), spans, query.smoothing ?? 0)]),
  );
  return {
    updates: spans.map(([, last]) => updates[last - 1]!),
    series,
    gaps: gapsOf(columns, spans),
  };
}

function curveOf(
  column: Float64Array,
  spans: readonly (readonly [number, number])[],
  smoothing: number,
): Curve {
  const [mean, low, high]: (number | null)[][] = [[], [], []];
  for (const [first, last] of spans) {
    let [sum, count, least, most] = [0, 0, Infinity, -Infinity];
    for (let i = first; i < last; i++) {
      const value = column[i]!;
      if (!Number.isFinite(value)) continue;
      sum += value;
      count++;
      if (value < least) least = value;
      if (value > most) most = value;
    }
    mean!.push(count === 0 ? null : sum / count);
    low!.push(count === 0 ? null : least);
    high!.push(count === 0 ? null : most);
  }
  const wide = spans.some(([first, last]) => last - first > 1);
  return {
    mean: mean!,
    ...(wide && { low: low!, high: high! }),
    ...(smoothing > 0 && { smooth: runningMean(column, spans, smoothing) }),
  };
}

/** `m ← w m + (1 − w) x`, divided by `1 − wⁿ` as Adam does, over all finite values from the first update on. */
function runningMean(
  column: Float64Array,
  spans: readonly (readonly [number, number])[],
  weight: number,
): Values {
  let [mean, rest, at] = [0, 1, 0];
  return spans.map(([, last]) => {
    for (; at < last; at++) {
      const value = column[at]!;
      if (!Number.isFinite(value)) continue;
      mean = weight * mean + (1 - weight) * value;
      rest *= weight;
    }
    return rest === 1 ? null : mean / (1 - rest);
  });
}

function gapsOf({ updates, marks }: Columns, spans: readonly (readonly [number, number])[]): Gap[] {
  const gaps: Gap[] = [];
  const open = new Map<Mark['kind'], { -readonly [K in keyof Gap]: Gap[K] } & { span: number }>();
  let span = 0;
  for (const { update, kind } of marks) {
    if (spans.length === 0 || update < updates[spans[0]![0]]!) continue;
    while (span < spans.length && updates[spans[span]![1] - 1]! < update) span++;
    if (span === spans.length) break;
    const gap = open.get(kind);
    if (gap !== undefined && span - gap.span <= 1) {
      Object.assign(gap, { to: update, updates: gap.updates + 1, span });
      continue;
    }
    const next = { kind, from: update, to: update, updates: 1, span };
    open.set(kind, next);
    gaps.push(next);
  }
  return gaps.map(({ kind, from, to, updates: count }) => ({ kind, from, to, updates: count }));
}

/** The first index whose value is not below. */
function lowerBound(sorted: Float64Array, value: number): number {
  let [low, high] = [0, sorted.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (sorted[middle]! < value) low = middle + 1;
    else high = middle;
  }
  return low;
}
