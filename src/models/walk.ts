/**
 * Walking a model: the one place where segments run in order with their parameters in place. The training step, validation,
 * generation and tests all go through `walk`, so that whoever moves parameters (sharding, offload) hears of every visit.
 */

import { noGrad, openRange, scope, type Tensor } from '../torch/index.js';
import type { Segment, SegmentBase, SegmentedModel, SegmentInputs } from './segment.js';
import type { Pause, Steps } from './steps.js';

export type Phase = 'forward' | 'backward';

/**
 * Keeps the parameters of segments in place while they run.
 *
 * The calls come for every segment in an order that depends on the recipe alone, never on the batch: sharding gathers and
 * frees inside of them, and all ranks must do so in step. A parameter is one leaf tensor for the whole run; its storage
 * may be freed and refilled in place.
 */
export interface Residency {
  /** The segment is about to run: its parameters must be in place. */
  acquire(segment: SegmentBase, phase: Phase): Pause;
  /** The segment will run next but one: its parameters may begin to travel. */
  prefetch(segment: SegmentBase): void;
  /** The segment has run: its parameters may go until it is acquired again. */
  release(segment: SegmentBase, phase: Phase): Pause;
}

/** Everything stays where it is. */
export const RESIDENT: Residency = { acquire() {}, prefetch() {}, release() {} };

export interface WalkOptions {
  readonly phase: Phase;
  readonly residency: Residency;
  /** What is visited after the last of these segments. */
  readonly next?: SegmentBase | undefined;
}

/**
 * Visits segments in turn, each with its parameters in place while those of the next begin to travel. Yields after each. A profile
 * names what it records of a visit by phase and segment.
 */
export function* walk<S extends SegmentBase>(
  segments: readonly S[],
  { phase, residency, next }: WalkOptions,
  visit: (segment: S, index: number) => void,
): Steps<void> {
  for (const [i, segment] of segments.entries()) {
    using _ = openRange(phase, segment.name);
    const there = residency.acquire(segment, phase);
    if (there !== undefined) yield there;
    const coming = segments[i + 1] ?? next;
    if (coming !== undefined) residency.prefetch(coming);
    visit(segment, i);
    yield residency.release(segment, phase);
  }
}

/** Whether a segment has work: the visual ones have none for a batch without pictures. */
export function hasWork(
  { visual }: Pick<Segment, 'visual'>,
  { images }: { images: object | null },
): boolean {
  return !visual || images !== null;
}

export interface ForwardOptions {
  /** @default RESIDENT */
  readonly residency?: Residency;
  /** Sees what each segment gave, which lives until the next has run. */
  readonly seen?: ((segment: Segment, x: Tensor) => void) | undefined;
}

/**
 * What the last decoder block gives, (rows, positions, C), without a graph or dropout: validation and generation. The caller
 * owns it.
 */
export function* forward(
  { segments, head }: Pick<SegmentedModel, 'segments' | 'head'>,
  inputs: SegmentInputs,
  { residency = RESIDENT, seen }: ForwardOptions = {},
): Steps<Tensor> {
  let boundary: Tensor | null = null;
  let finished = false;
  try {
    yield* walk(segments, { phase: 'forward', residency, next: head }, (segment) => {
      if (!hasWork(segment, inputs)) return;
      const before = boundary;
      boundary = noGrad(() => scope(() => segment.forward(before, inputs)));
      before?.dispose();
      seen?.(segment, boundary);
    });
    finished = true;
    return boundary!;
  } finally {
    if (!finished) (boundary as Tensor | null)?.dispose();
  }
}
