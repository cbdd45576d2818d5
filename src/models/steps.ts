/**
 * Programs that pause: a generator that yields between pieces of work, so that whoever drives it can let other work of the
 * process (Ctrl-C, the view, loading data) run in between.
 */

import { setImmediate } from 'node:timers/promises';

/** A program that yields after each segment. */
export type Steps<T> = Generator<void, T, void>;

/** Runs a program to its end at once. */
export function finish<T>(steps: Steps<T>): T {
  let state = steps.next();
  while (state.done !== true) state = steps.next();
  return state.value;
}

/** Milliseconds of work between two looks at the event loop: nobody notices them, and looking costs nothing against them. */
const STRETCH = 10;

/** Runs a program to its end, yielding to the event loop between segments. */
export async function drive<T>(steps: Steps<T>): Promise<T> {
  let last = performance.now();
  for (;;) {
    const state = steps.next();
    if (state.done === true) return state.value;
    if (performance.now() - last < STRETCH) continue;
    await setImmediate();
    last = performance.now();
  }
}
