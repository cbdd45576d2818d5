/** The curves of a run, from `metrics.jsonl`. */
import { number, readJsonLines } from '../../base/json-lines.js';

/** One line of metrics: the update and whatever was measured. */
export type Metrics = Readonly<Record<string, unknown>> & { readonly update: number };

/**
 * The metrics of a run by update. A run that was resumed, or rolled back, wrote some updates twice: what came later
 * holds, and what lay beyond the point that it went back to is forgotten.
 */
export async function readMetrics(path: string): Promise<Metrics[]> {
  const metrics: Metrics[] = [];
  for await (const { value } of readJsonLines(path)) {
    if (!isMetrics(value)) continue;
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

function isMetrics(value: unknown): value is Metrics {
  return (
    typeof value === 'object' &&
    value !== null &&
    'update' in value &&
    Number.isFinite(value.update)
  );
}
