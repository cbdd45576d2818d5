/**
 * What ran when: operators and named ranges on the host, kernels and copies on the GPU, by libtorch's profiler.
 *
 *     const profile = startProfile('cuda:0');
 *     {
 *       using _ = openRange('update');
 *       ...
 *     }
 *     synchronize('cuda:0');
 *     const activities = await profile.stop('trace.json'); // for chrome://tracing and Perfetto
 */

import { UsageError } from '../base/errors.js';
import { expectDone, expectValue } from './errors.js';
import { native, type Device } from './native.js';
import { type Activity, readTrace } from './trace-file.js';

export type { Activity };

export interface RunningProfile {
  /**
   * Ends it and writes the trace.
   *
   * @param path of a file in the Trace Event Format
   */
  stop(path: string): Promise<Activity[]>;
  /** Ends it if it still runs, and throws away what it recorded. */
  discard(): void;
}

let running = false;
/** A ghost run is traced. */
let traced = false;

/** Ranges are recorded although no profile runs. */
export function nameRanges(on: boolean): void {
  traced = on;
}

/**
 * Begins to record. It slows the host down: the times of kernels are those without it.
 *
 * @throws UsageError `E_PROFILE` while another one runs
 */
export function startProfile(device: Device): RunningProfile {
  if (running) {
    throw new UsageError('startProfile(): another profile is running', {
      code: 'E_PROFILE',
      hint: 'Stop that one first.',
    });
  }
  // Where no GPU is asked for, its absence is no error: only what is worse than one is printed.
  if (!device.startsWith('cuda')) process.env['KINETO_LOG_LEVEL'] ??= '5';
  expectDone(native.startProfile(device.startsWith('cuda')), 'startProfile()');
  running = true;
  let ended = false;
  const end = (path: string): void => {
    ended = true;
    running = false;
    expectDone(native.stopProfile(path), 'stopProfile()');
  };
  return {
    async stop(path) {
      end(path);
      return readTrace(path);
    },
    discard: () => {
      if (!ended) end('');
    },
  };
}

/**
 * Names what the host does until it is disposed: a row of the trace, and what operators and kernels can be attributed to.
 *
 * @param words joined by spaces
 * @returns nothing, at no cost, where neither a profile nor a trace runs
 */
export function openRange(...words: readonly string[]): Disposable | undefined {
  if (!running && !traced) return undefined;
  const range = expectValue(native.beginRange(words.join(' ')), 'openRange()');
  return { [Symbol.dispose]: () => expectDone(native.endRange(range), 'endRange()') };
}

/** Milliseconds in which any of these ran. */
export function busyTime(activities: readonly Pick<Activity, 'start' | 'end'>[]): number {
  let total = 0;
  let until = -Infinity;
  for (const { start, end } of activities.toSorted((a, b) => a.start - b.start)) {
    if (end > until) total += end - Math.max(start, until);
    until = Math.max(until, end);
  }
  return total;
}
