/** What a run told: its curves, from `metrics.jsonl`, and everything else, from `events.jsonl`. */
import { join } from 'node:path';

import { number, readJsonLines } from '../../base/json-lines.js';
import type { TrainEvent } from '../events.js';

/** One line of metrics: the update and whatever was measured. */
export type Metrics = Readonly<Record<string, unknown>> & { readonly update: number };

/**
 * The metrics of a run by update. A run that was resumed, or rolled back, wrote some updates twice: what came later
 * holds, and what lay beyond the point that it went back to is forgotten.
 *
 * @param onBroken is told of lines that cannot be read, and are passed over
 */
export async function readMetrics(
  path: string,
  onBroken: (line: number) => void = () => undefined,
): Promise<Metrics[]> {
  const metrics: Metrics[] = [];
  for await (const { value, line } of readJsonLines(path, { onBroken })) {
    if (!isMetrics(value)) {
      onBroken(line);
      continue;
    }
    while (metrics.length > 0 && metrics.at(-1)!.update >= value.update) metrics.pop();
    metrics.push(value);
  }
  return metrics;
}

/** One curve: the points where `key` was measured; NaN where the value was not finite. */
export function curve(metrics: readonly Metrics[], key: string): { x: number; y: number }[] {
  return metrics
    .filter((line) => line[key] !== undefined && line[key] !== null)
    .map((line) => ({ x: line.update, y: number(line[key]) }));
}

export function isMetrics(value: unknown): value is Metrics {
  return (
    typeof value === 'object' &&
    value !== null &&
    'update' in value &&
    Number.isFinite(value.update)
  );
}

export type LoggedEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/**
 * The events of the run in `folder`, oldest first, as far as they can be read.
 *
 * @param onBroken is told of lines that cannot be read, and are passed over
 */
export async function readEvents(
  folder: string,
  onBroken: (line: number) => void = () => undefined,
): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = [];
  try {
    for await (const { value, line } of readJsonLines(join(folder, 'events.jsonl'), { onBroken })) {
      if (typeof value === 'object' && value !== null && 'type' in value) {
        events.push(value as LoggedEvent);
      } else onBroken(line);
    }
  } catch {
    // What could be read is shown.
  }
  return events;
}

/** Those of one kind; numbers that are not finite are texts in them (see `number` of json-lines). */
export function ofType<T extends TrainEvent['type']>(
  events: readonly LoggedEvent[],
  type: T,
): Extract<TrainEvent, { type: T }>[] {
  return events.filter((event) => event.type === type) as unknown as Extract<
    TrainEvent,
    { type: T }
  >[];
}

export interface LoggedWarning {
  readonly code: string;
  /** What was told when it first came. */
  readonly message: string;
  /** Records that it was about, each time they came; `null` where it was about none, or no end of the run has told. */
  readonly records: number | null;
}

/** The kinds of warnings of a run, in the order in which they came. */
export function loggedWarnings(events: readonly LoggedEvent[]): LoggedWarning[] {
  const counts = ofType(events, 'end').at(-1)?.warnings ?? {};
  const kinds = new Map<string, LoggedWarning>();
  for (const { code, message } of ofType(events, 'warning')) {
    if (!kinds.has(code)) kinds.set(code, { code, message, records: counts[code] ?? null });
  }
  return [...kinds.values()];
}
