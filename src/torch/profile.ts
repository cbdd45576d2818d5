/**
 * What ran when: operators on the host, kernels and copies on the GPU, by libtorch's profiler.
 *
 *     const profile = startProfile('cuda:0');
 *     ... // and wait for the device
 *     const activities = await profile.stop('trace.json'); // for chrome://tracing and Perfetto
 */

import { readFile } from 'node:fs/promises';
import { UsageError } from '../base/errors.js';
import { expectDone } from './errors.js';
import { native, type Device } from './native.js';

/** One operator, kernel or copy. */
export interface Activity {
  readonly name: string;
  readonly kind: 'operator' | 'kernel' | 'copy';
  /** Milliseconds, from an arbitrary moment on. */
  readonly start: number;
  readonly end: number;
}

export interface RunningProfile {
  /**
   * Ends it and writes the trace.
   *
   * @param path of a file in the Trace Event Format
   */
  stop(path: string): Promise<Activity[]>;
}

const KINDS: Readonly<Record<string, Activity['kind']>> = {
  cpu_op: 'operator',
  kernel: 'kernel',
  gpu_memcpy: 'copy',
  gpu_memset: 'copy',
};

let running = false;

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
  expectDone(native.startProfile(device.startsWith('cuda')), 'startProfile()');
  running = true;
  return {
    async stop(path) {
      running = false;
      expectDone(native.stopProfile(path), 'stopProfile()');
      const { traceEvents } = JSON.parse(await readFile(path, 'utf8')) as {
        traceEvents: { ph: string; cat?: string; name: string; ts: number; dur: number }[];
      };
      return traceEvents.flatMap(({ ph, cat = '', name, ts, dur }) => {
        const kind = ph === 'X' ? KINDS[cat] : undefined;
        return kind === undefined ? [] : [{ name, kind, start: ts / 1000, end: (ts + dur) / 1000 }];
      });
    },
  };
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
