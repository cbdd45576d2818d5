/** Runs before each test file: one thread per operator, no calibration, the seed of drawn cases, and the matcher `toLeakNothing`. */

import fc from 'fast-check';
import { createRequire } from 'node:module';
import { expect } from 'vitest';
import { nativeLibrary } from '../src/base/native-path.js';
import type { Native } from '../src/torch/native.js';
import { liveSites } from '../src/torch/trace.js';

// Read when libtorch is loaded, if the file loads it: several test processes share the cores, and sums are reproducible at
// equal counts only.
process.env['OMP_NUM_THREADS'] = '1';

// What runs on this machine have measured is theirs.
process.env['PATINA_CALIBRATION'] = 'off';

// The same tree gives the same answer: `npm test` draws the cases of property tests from one seed, `npm run test:full` from a new
// one each time.
if (process.env['PATINA_FULL'] !== '1') fc.configureGlobal({ seed: 20_261_129 });

/** The addon itself, which the test has loaded already: files without tensors must not load it. */
function live(): number {
  const addon = createRequire(import.meta.url)(nativeLibrary('patina')) as Native;
  return addon.liveTensors();
}

interface Result {
  pass: boolean;
  message: () => string;
}

function result(before: number): Result {
  const left = live() - before;
  const sites = liveSites();
  const where =
    sites.length === 0
      ? 'PATINA_TRACE_TENSORS=1 names where they were made'
      : `made at\n  ${sites.slice(-Math.max(left, 1)).join('\n  ')}`;
  return {
    pass: left <= 0,
    message: () =>
      left > 0
        ? `expected to leak nothing, but ${left} tensors are left; ${where}`
        : 'expected to leak tensors, but none are left',
  };
}

expect.extend({
  /** Calls the function: no tensor may be left that was not there before. A promise is awaited. */
  toLeakNothing(run: () => unknown): Result | Promise<Result> {
    const before = live();
    const returned = run();
    return returned instanceof Promise ? returned.then(() => result(before)) : result(before);
  },
});

declare module 'vitest' {
  interface Matchers<T> {
    /**
     * Calls the received function, which must leave no tensor alive that was not there before; with an asynchronous function the
     * assertion is to be awaited.
     */
    toLeakNothing: () => T extends () => Promise<unknown> ? Promise<undefined> : undefined;
  }
}
