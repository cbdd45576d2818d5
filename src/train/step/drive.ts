/** Drives a step program, and lets other work of the process (Ctrl-C, the view, loading data) run in between. */

import { setImmediate } from 'node:timers/promises';
import type { Steps } from './step.js';

/** Milliseconds of work between two looks at the event loop: nobody notices them, and looking costs nothing against them. */
const STRETCH = 10;

/** Runs the program to its end, yielding to the event loop between segments. */
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
