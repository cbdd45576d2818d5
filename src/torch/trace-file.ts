/** The file of a trace in the Trace Event Format, as libtorch's profiler writes it; it may be longer than a string can be. */

import { createReadStream } from 'node:fs';

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
  readonly ph?: string;
  readonly cat?: string;
  readonly name: string;
  /** Microseconds. */
  readonly ts: number;
  readonly dur?: number;
  readonly pid: number | string;
  readonly tid: number | string;
  readonly args?: { readonly correlation?: number; readonly 'Input Dims'?: unknown };
}

/** @param chunk characters that are read at once */
export async function readTrace(path: string, chunk = 1 << 20): Promise<Activity[]> {
  const activities: Activity[] = [];
  const objects = new ObjectScanner((text) => {
    activities.push(...activityOf(JSON.parse(text) as TraceEvent));
  });
  for await (const text of createReadStream(path, { encoding: 'utf8', highWaterMark: chunk })) {
    objects.add(text as string);
  }
  return activities;
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

const [QUOTE, BACKSLASH] = ['"', '\\'].map((c) => c.charCodeAt(0)) as [number, number];
const OPENING = new Set(['{', '['].map((c) => c.charCodeAt(0)));
const CLOSING = new Set(['}', ']'].map((c) => c.charCodeAt(0)));
/** The file is an object whose fields are lists; what these hold is nested so deep. */
const DEPTH = 3;

/** Cuts the objects in the lists of a JSON text that comes in pieces. */
class ObjectScanner {
  private depth = 0;
  private inString = false;
  private escaped = false;
  /** What there is so far of an object that has begun. */
  private begun = '';

  constructor(private readonly found: (text: string) => void) {}

  add(text: string): void {
    let start = 0;
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i);
      if (this.inString) {
        if (this.escaped) this.escaped = false;
        else if (code === BACKSLASH) this.escaped = true;
        else if (code === QUOTE) this.inString = false;
      } else if (code === QUOTE) {
        this.inString = true;
      } else if (OPENING.has(code)) {
        if (++this.depth === DEPTH) start = i;
      } else if (CLOSING.has(code) && this.depth-- === DEPTH) {
        this.found(this.begun + text.slice(start, i + 1));
        this.begun = '';
      }
    }
    if (this.depth >= DEPTH) this.begun += text.slice(start);
  }
}
