/** The names of a step's ranges, which a profile records, and which of them was open when. */

import { openRange, type Activity } from '../../torch/index.js';
import type { StepPart } from './step-parts.js';

/** As PyTorch's profiler names a step, so that tools which read its traces know where one begins. */
const UPDATE = 'ProfilerStep#';

/** The range of a whole update on the host. @param update counts from 0 */
export function updateRange(update: number): Disposable | undefined {
  return openRange(`${UPDATE}${update + 1}`);
}

export interface Place {
  readonly part: StepPart;
  readonly inUpdate: boolean;
}

const OUTSIDE: Place = { part: 'other', inUpdate: false };

export class Ranges {
  readonly updates: number;
  /** When the first update began, and the last one had been queued. */
  readonly start: number;
  readonly end: number;
  /** Milliseconds of the host in updates. */
  readonly inUpdates: number;
  /** From when on which place counts, in order. */
  private readonly turns: { readonly time: number; readonly place: Place }[] = [];

  /** @param ranges opened and closed on one thread */
  constructor(ranges: readonly Activity[]) {
    const steps = ranges.filter(({ name }) => name.startsWith(UPDATE));
    this.updates = steps.length;
    this.start = Math.min(...steps.map(({ start }) => start));
    this.end = Math.max(...steps.map(({ end }) => end));
    this.inUpdates = steps.reduce((all, { start, end }) => all + end - start, 0);
    const edges = ranges.flatMap((range) => [
      { time: range.start, opens: true, range },
      { time: range.end, opens: false, range },
    ]);
    // The outer one of two opens first.
    edges.sort((a, b) => a.time - b.time || b.range.end - a.range.end);
    const open = new Set<Activity>();
    for (const { time, opens, range } of edges) {
      if (opens) open.add(range);
      else open.delete(range);
      this.turns.push({ time, place: placeOf([...open].map(({ name }) => name)) });
    }
  }

  /** Where the host was. */
  at(time: number): Place {
    let [low, high] = [0, this.turns.length];
    while (low < high) {
      const middle = (low + high) >> 1;
      if (this.turns[middle]!.time <= time) low = middle + 1;
      else high = middle;
    }
    return this.turns[low - 1]?.place ?? OUTSIDE;
  }
}

/** @param names of the open ranges, from the outermost */
function placeOf(names: readonly string[]): Place {
  if (!names.some((name) => name.startsWith(UPDATE))) return OUTSIDE;
  return { part: partOf(names.at(-1)!), inUpdate: true };
}

/** Of a range named by its phase and its segment: `backward decoder.3`. */
function partOf(name: string): StepPart {
  const what = name.split(' ').at(-1)!.split('.')[0]!;
  return PARTS[what] ?? 'other';
}

const PARTS: Readonly<Record<string, StepPart>> = {
  vision: 'tower',
  projector: 'projector',
  embedding: 'decoder',
  decoder: 'decoder',
  head: 'head',
  optimizer: 'optimizer',
};
