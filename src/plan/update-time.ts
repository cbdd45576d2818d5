/** How long an update takes, by a ghost run with the first of its micro-batches. */

import type { TypicalUpdate } from '../train/index.js';
import { repeated } from './batches.js';
import { HOST } from './devices/hosts.js';
import { ghostRun, type GhostOptions } from './ghost-run.js';
import { replay, type Replayed } from './replay.js';

export interface UpdateTime {
  readonly seconds: number;
  /** Share of them for which the card has work: where it is small, the host holds the update up. */
  readonly busy: number;
}

export interface UpdateTimeOptions extends Pick<GhostOptions, 'recipe' | 'ranks'> {
  /** Micro-batches that the ghost run had. */
  readonly ran: number;
  readonly microBatches: number;
}

/** By the last of the updates of a ghost run. */
export function updateTime(
  { updates, perMicroBatch, busy, host: bytes }: Replayed,
  { recipe, ranks = 1, ran, microBatches }: UpdateTimeOptions,
): UpdateTime {
  const traced = updates.at(-1)! + (microBatches - ran) * perMicroBatch;
  const isOnHost = recipe.parallel.offload !== 'none';
  // A thread beside JavaScript's does it, which the trace does not see, and the next forward waits for it.
  const seconds = traced + (isOnHost ? hostOptimizerTime(bytes, ranks) : 0);
  return { seconds, busy: (busy * traced) / seconds };
}

/** GPUs of one machine, at most. */
const OF_ONE_HOST = 8;

/** AdamW on the CPU, of each parameter 30 bytes of the 18 that lie there (docs/many-gpus.md); ranks of one host share its memory. */
function hostOptimizerTime(bytes: number, ranks: number): number {
  return ((30 / 18) * bytes * Math.min(ranks, OF_ONE_HOST)) / HOST.memory;
}

/** Of an update whose micro-batches are all as long as one. */
export async function typicalTime(
  { batch, microBatches }: TypicalUpdate,
  options: Omit<GhostOptions, 'batches'>,
): Promise<UpdateTime> {
  const batches = repeated(batch, microBatches);
  const { lines, known } = await ghostRun({ ...options, batches });
  const run = replay(lines, known, { ...options, batches });
  return updateTime(run, { ...options, ran: batches.length, microBatches });
}
