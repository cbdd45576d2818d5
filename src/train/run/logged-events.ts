/** What a run told, from `events.jsonl`. */
import { join } from 'node:path';

import { readJsonLines } from '../../base/json-lines.js';
import type { TrainEvent } from '../events.js';

export type LoggedEvent = Readonly<Record<string, unknown>> & { readonly type: string };

/** The events of the run in `folder`, oldest first, as far as they can be read. */
export async function readEvents(folder: string): Promise<LoggedEvent[]> {
  const events: LoggedEvent[] = [];
  try {
    for await (const { value } of readJsonLines(join(folder, 'events.jsonl'))) {
      if (typeof value === 'object' && value !== null && 'type' in value) {
        events.push(value as LoggedEvent);
      }
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
