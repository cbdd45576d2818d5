/**
 * Memory that runs out on one of several ranks in the middle of an update. The others are in calls that this rank has to make as well, so
 * it goes on with them: it drops the micro-batch that it was at, hands in zeros for it as for one without records, and runs none of
 * those after it. The numbers that ranks tell each other at the end of the update say so, and all of them leave it out.
 */

import { OutOfMemoryError } from '../../base/errors.js';

/** Makes what an update cannot go on without; tried again once there is room. */
export type Need = <T>(make: () => T) => T;

export class Shortage {
  /** What ran out first in this update, on this rank. */
  error: OutOfMemoryError | null = null;
  private running: { drop(): void } | null = null;

  /** @param goesOn whether an update that runs out of memory goes on to its end, to be left out; else it ends there */
  constructor(private readonly goesOn = true) {}

  /** A new update. */
  begin(): void {
    this.error = null;
  }

  /** The micro-batch that is dropped should memory run out. */
  run(microBatch: { drop(): void } | null): void {
    this.running = microBatch;
  }

  /** Goes on without the micro-batch after this error. @throws it, where that is no way to go on */
  private take(error: unknown): void {
    if (!this.goesOn || !(error instanceof OutOfMemoryError)) throw error;
    this.error ??= error;
    this.running?.drop();
  }

  /** Work of this rank alone; without it the update goes on with `nothing`. */
  try<T, U>(work: () => T, nothing: U): T | U {
    try {
      return work();
    } catch (error) {
      this.take(error);
      return nothing;
    }
  }

  /** @throws OutOfMemoryError where there is no room either once the micro-batch is dropped */
  readonly need: Need = (make) => {
    try {
      return make();
    } catch (error) {
      this.take(error);
      return make();
    }
  };
}

/** Where an update that runs out of memory ends there. */
export const ENDS = new Shortage(false);
