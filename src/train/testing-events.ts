/** For tests of whole runs: their events. */

import type { EndEvent, StartEvent, TrainEvent, UpdateEvent } from './events.js';

/** All events of a run. */
export async function all(events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> {
  const seen: TrainEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

export const startOf = (events: readonly TrainEvent[]): StartEvent =>
  events.find((event) => event.type === 'start')!;

export const updatesOf = (events: readonly TrainEvent[]): UpdateEvent[] =>
  events.filter((event) => event.type === 'update');

export const lossesOf = (events: readonly TrainEvent[]): (number | null)[] =>
  updatesOf(events).map(({ loss }) => loss);

export const endOf = (events: readonly TrainEvent[]): EndEvent => events.at(-1) as EndEvent;
