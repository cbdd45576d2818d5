/** What the logs of a run hold, and how much of them cannot be read: damaged, or written by another version. */

import { plural } from '../../base/format.js';
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { z } from 'zod';

import type { DiagnosisEvent, RecoveryEvent, SmallerBatchesEvent } from '../../train/events.js';
import { readEvents, readMetrics, type LoggedEvent, type Metrics } from '../../train/run/logs.js';

export interface Logs {
  readonly events: readonly LoggedEvent[];
  readonly diagnoses: readonly DiagnosisEvent[];
  readonly recoveries: readonly (RecoveryEvent | SmallerBatchesEvent)[];
  readonly metrics: readonly Metrics[];
  /** What is missing, a sentence each. */
  readonly unread: readonly string[];
}

/** What is shown of a diagnosis. */
const DIAGNOSIS = z.looseObject({
  update: z.number(),
  cause: z.string(),
  confidence: z.number(),
  message: z.string(),
  evidence: z.array(z.string()),
  fix: z.string(),
  records: z.array(
    z.looseObject({
      source: z.string(),
      line: z.number(),
      record: z.number(),
      id: z.union([z.string(), z.number(), z.null()]),
    }),
  ),
  module: z.string().nullable(),
  rank: z.number().nullable(),
  page: z.string(),
});

/** What is shown of a recovery. */
const RECOVERY = z.looseObject({ update: z.number(), message: z.string() }).and(
  z.discriminatedUnion('action', [
    z.looseObject({
      action: z.enum(['leave-out', 'quarantine', 'roll-back', 'stop']),
      budgetLeft: z.number(),
    }),
    z.looseObject({
      action: z.literal('halve'),
      memory: z.looseObject({ allocated: z.number(), predicted: z.number().nullable() }),
    }),
  ]),
);

/** @param updates that the run has made */
export async function readLogs(folder: string, updates: number): Promise<Logs> {
  const broken = { 'events.jsonl': 0, 'metrics.jsonl': 0 };
  const events = await readEvents(folder, () => broken['events.jsonl']++);
  const metrics = await readMetrics(
    join(folder, 'metrics.jsonl'),
    () => broken['metrics.jsonl']++,
  ).catch(() => []);
  const sound = (type: string, form: z.ZodType): LoggedEvent[] => {
    const all = events.filter((event) => event.type === type);
    const whole = all.filter((event) => form.safeParse(event).success);
    broken['events.jsonl'] += all.length - whole.length;
    return whole;
  };
  const [diagnoses, recoveries] = [sound('diagnosis', DIAGNOSIS), sound('recovery', RECOVERY)];
  const unread = Object.entries(broken).flatMap(([file, lines]) => {
    if (updates > 0 && !existsSync(join(folder, file))) return [`${file} is not there`];
    if (lines === 0) return [];
    return [`${plural(lines, 'line')} of ${file} cannot be read`];
  });
  return {
    ...{ events, metrics, unread },
    diagnoses: diagnoses as unknown as DiagnosisEvent[],
    recoveries: recoveries as unknown as Logs['recoveries'],
  };
}
