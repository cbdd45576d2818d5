/**
 * Programs that pause: a generator that yields between pieces of work, so that whoever drives it can let other work of the
 * process (Ctrl-C, the view, loading data) run in between, and wait for what other ranks bring.
 */

import { setImmediate } from 'node:timers/promises';

/** Nothing, or what the program has to wait for before it goes on. */
export type Pause = void | Promise<void>;

/** A program that yields after each segment, and a promise where it has to wait. */
export type Steps<T> = Generator<Pause, T, void>;

/** Runs a program to its end at once; only for one that never waits. */
export function finish<T>(steps: Steps<T>): T {
  for (;;) {
    const state = steps.next();
    if (state.done === true) return state.value;
    if (state.value === undefined) continue;
    steps.return(undefined as never);
    throw new TypeError('a program that waits for other ranks has to be driven, not finished');
  }
}

/** Milliseconds of work between two looks at the event loop: nobody notices them, and looking costs nothing against them. */
const STRETCH = 10;

/** Runs a program to its end, yielding to the event loop between segments. */
export async function drive<T>(steps: Steps<T>): Promise<T> {
  let last = performance.now();
  for (;;) {
    const state = steps.next();
    if (state.done === true) return state.value;
    if (state.value !== undefined) await state.value;
    if (performance.now() - last < STRETCH) continue;
    await setImmediate();
    last = performance.now();
  }
}
