/**
 * The trace of a program that runs on meta tensors: what it would have asked of a card, in the order in which the host gave it to the
 * device. What a card makes of it is said elsewhere (`src/plan/`).
 */

import { UsageError } from '../base/errors.js';
import { expectDone, expectValue } from './errors.js';
import { native } from './native.js';
import { nameRanges } from './profile.js';
import type { Tensor } from './tensor.js';

export interface GhostAllocation {
  readonly kind: 'allocate';
  readonly block: number;
  readonly bytes: number;
  readonly stream: number;
  /** It stands for host memory. */
  readonly host: boolean;
}

/** An operator, or a named range (`openRange`), begins; what stands until its end is within. */
export interface GhostBegin {
  readonly kind: 'begin';
  readonly number: number;
  readonly name: string;
  readonly isRange: boolean;
  /** Whether it reads or writes host memory. */
  readonly onHost: boolean;
  readonly stream: number;
  /** Of all tensors that it is given. */
  readonly bytes: number;
  /** Of those that it overwrites. */
  readonly overwritten: number;
  /** Shapes of its arguments; none for what is no tensor. */
  readonly shapes: readonly (readonly number[])[];
}

/** A collective. */
export interface GhostCall {
  readonly kind: 'call';
  readonly call: number;
  readonly name: string;
  /** Of the whole that is gathered, reduced or sent. */
  readonly bytes: number;
  /** Its memory. */
  readonly block: number;
  readonly ranks: number;
  readonly stream: number;
}

/** A line of a trace. Blocks of memory, operators, events and calls are known by numbers; stream 0 is the one that a program begins in. */
export type TraceLine =
  | GhostAllocation
  | { readonly kind: 'free'; readonly block: number }
  /** The stream reads the block: it is not given out again before the stream has passed this point. */
  | { readonly kind: 'protect'; readonly block: number; readonly stream: number }
  | GhostBegin
  | { readonly kind: 'end'; readonly number: number }
  | { readonly kind: 'record' | 'wait'; readonly event: number; readonly stream: number }
  | GhostCall
  /** The stream waits for the call. */
  | { readonly kind: 'arrive'; readonly call: number; readonly stream: number };

export interface GhostTrace extends Disposable {
  /** The lines since it was last asked, read anew by each who goes through them: there may be a million. */
  take(): Iterable<TraceLine>;
}

/**
 * Begins to trace; ranges get their names. One at a time.
 *
 * @throws UsageError `E_TRACE` while another one runs
 */
export function startGhostTrace(): GhostTrace {
  const started: unknown = native.startTrace();
  if (started !== undefined) {
    throw new UsageError('startGhostTrace(): another trace is running', {
      code: 'E_TRACE',
      hint: 'Stop that one first.',
    });
  }
  nameRanges(true);
  return {
    take() {
      const [lines, names] = expectValue(native.takeTrace(), 'take()');
      const data = new Float64Array(lines);
      return { [Symbol.iterator]: () => readLines(data, names) };
    },
    [Symbol.dispose]() {
      nameRanges(false);
      expectDone(native.stopTrace(), 'stopTrace()');
    },
  };
}

/** The number of a meta tensor's memory in the trace; 0 where it has none. */
export function tracedBlock(tensor: Tensor): number {
  return expectValue(native.tracedBlock(tensor.handle), 'tracedBlock()');
}

/** Runs a synchronous function whose meta tensors stand for host memory. */
export function asHostMemory<T>(run: () => T): T {
  const before = expectValue(native.traceHost(true), 'asHostMemory()');
  try {
    return run();
  } finally {
    native.traceHost(before);
  }
}

/** By the order of `enum Line` in `native/ghost.cc`. */
function* readLines(data: Float64Array, names: readonly string[]): Generator<TraceLine, void> {
  let at = 0;
  const next = (): number => data[at++]!;
  while (at < data.length) {
    switch (next()) {
      case 0: {
        const block = next();
        const bytes = next();
        const stream = next();
        yield { kind: 'allocate', block, bytes, stream, host: next() === 1 };
        break;
      }
      case 1:
        yield { kind: 'free', block: next() };
        break;
      case 2:
        yield { kind: 'protect', block: next(), stream: next() };
        break;
      case 3: {
        const number = next();
        const name = names[next()]!;
        const what = next();
        const [isRange, onHost] = [what === 1, what === 2];
        const stream = next();
        const bytes = next();
        const overwritten = next();
        const count = next();
        const shapes: number[][] = [];
        for (let i = 0; i < count; i++) {
          const shape: number[] = [];
          for (let left = next(); left > 0; left--) shape.push(next());
          shapes.push(shape);
        }
        yield { kind: 'begin', number, name, isRange, onHost, stream, bytes, overwritten, shapes };
        break;
      }
      case 4:
        yield { kind: 'end', number: next() };
        break;
      case 5:
        yield { kind: 'record', event: next(), stream: next() };
        break;
      case 6:
        yield { kind: 'wait', event: next(), stream: next() };
        break;
      case 7: {
        const [call, name, bytes, block] = [next(), names[next()]!, next(), next()];
        yield { kind: 'call', call, name, bytes, block, ranks: next(), stream: next() };
        break;
      }
      default:
        yield { kind: 'arrive', call: next(), stream: next() };
    }
  }
}
