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

import { readFile } from 'node:fs/promises';
import { DataError, UsageError } from '../base/errors.js';
import { expectDone, expectValue } from './errors.js';
import { native, type Device } from './native.js';

/** An operator, a range, a call of the CUDA runtime or driver; or on the device a kernel, a copy or a fill. */
export interface Activity {
  readonly name: string;
  readonly kind: 'operator' | 'range' | 'runtime' | 'kernel' | 'copy';
  /** Milliseconds, from an arbitrary moment on. */
  readonly start: number;
  readonly end: number;
  /** Of the host, or the stream of the device. */
  readonly thread: string;
  /** What a kernel or copy has in common with the call of the runtime that launched it. */
  readonly correlation?: number;
  /** Of the tensors that an operator was given; `[]` for what is none. */
  readonly shapes?: readonly (readonly number[])[];
}

export interface RunningProfile {
  /**
   * Ends it and writes the trace.
   *
   * @param path of a file in the Trace Event Format
   * @throws DataError `E_PROFILE` where the trace is too large to be read; it is there all the same
   */
  stop(path: string): Promise<Activity[]>;
  /** Ends it, and throws away what it recorded. */
  discard(): void;
}

const KINDS: Readonly<Record<string, Activity['kind']>> = {
  cpu_op: 'operator',
  user_annotation: 'range',
  cuda_runtime: 'runtime',
  cuda_driver: 'runtime',
  kernel: 'kernel',
  gpu_memcpy: 'copy',
  gpu_memset: 'copy',
};

interface TraceEvent {
  readonly ph: string;
  readonly cat?: string;
  readonly name: string;
  /** Microseconds. */
  readonly ts: number;
  readonly dur?: number;
  readonly pid: number | string;
  readonly tid: number | string;
  readonly args?: { readonly correlation?: number; readonly 'Input Dims'?: unknown };
}

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
  // Where no GPU is asked for, its absence is no error: only what is worse than one is printed.
  if (!device.startsWith('cuda')) process.env['KINETO_LOG_LEVEL'] ??= '5';
  expectDone(native.startProfile(device.startsWith('cuda')), 'startProfile()');
  running = true;
  const end = (path: string): void => {
    running = false;
    expectDone(native.stopProfile(path), 'stopProfile()');
  };
  return {
    async stop(path) {
      end(path);
      return readTrace(path);
    },
    discard: () => end(''),
  };
}

/**
 * Names what the host does until it is disposed: a row of the trace, and what operators and kernels can be attributed to.
 *
 * @param words joined by spaces
 * @returns nothing, at no cost, where no profile runs
 */
export function openRange(...words: readonly string[]): Disposable | undefined {
  if (!running) return undefined;
  const range = expectValue(native.beginRange(words.join(' ')), 'openRange()');
  return { [Symbol.dispose]: () => expectDone(native.endRange(range), 'endRange()') };
}

/** What the text of one string may hold, in bytes. */
const LONGEST = 500e6;

async function readTrace(path: string): Promise<Activity[]> {
  const bytes = await readFile(path);
  if (bytes.length > LONGEST) {
    throw new DataError(`${path}: a trace of ${bytes.length} bytes is too large to be read here.`, {
      code: 'E_PROFILE',
      hint: 'Profile fewer updates; Perfetto opens this one.',
    });
  }
  const { traceEvents } = JSON.parse(bytes.toString('utf8')) as { traceEvents: TraceEvent[] };
  return traceEvents.flatMap(activityOf);
}

function activityOf({ ph, cat = '', name, ts, dur = 0, pid, tid, args }: TraceEvent): Activity[] {
  const kind = ph === 'X' ? KINDS[cat] : undefined;
  if (kind === undefined) return [];
  const shapes = args?.['Input Dims'];
  return [
    {
      ...{ name, kind, start: ts / 1000, end: (ts + dur) / 1000, thread: `${pid}/${tid}` },
      ...(args?.correlation === undefined ? {} : { correlation: args.correlation }),
      ...(Array.isArray(shapes) ? { shapes: shapes as number[][] } : {}),
    },
  ];
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
