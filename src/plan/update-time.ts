/** How long an update takes, by a ghost run with the first of its micro-batches. */

import type { TypicalUpdate } from '../train/index.js';
import { repeated } from './batches.js';
import { ghostRun, type GhostOptions } from './ghost-run.js';
import { replay, type Replayed } from './replay.js';

export interface UpdateTime {
  readonly seconds: number;
  /** Share of them for which the card has work: where it is small, the host holds the update up. */
  readonly busy: number;
}

/** By the last of the updates of a ghost run, which had so many micro-batches. */
export function updateTime(
  { updates, perMicroBatch, busy }: Replayed,
  ran: number,
  microBatches: number,
): UpdateTime {
  return { seconds: updates.at(-1)! + (microBatches - ran) * perMicroBatch, busy };
}

/** Of an update whose micro-batches are all as long as one. */
export async function typicalTime(
  { batch, microBatches }: TypicalUpdate,
  options: Omit<GhostOptions, 'batches'>,
): Promise<UpdateTime> {
  const batches = repeated(batch, microBatches);
  const { lines, known } = await ghostRun({ ...options, batches });
  return updateTime(replay(lines, known, options), batches.length, microBatches);
}
