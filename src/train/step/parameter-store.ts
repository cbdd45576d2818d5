/**
 * How the step program gets at parameters and gives away gradients.
 *
 * The calls come for every segment in an order that depends on the recipe alone, never on the batch: sharding gathers and
 * frees inside of them, and all ranks must do so in step. A trainable parameter is one leaf tensor for the whole run;
 * a store may free and refill its storage in place.
 */

import type { SegmentBase } from '../../models/index.js';
import type { Tensor } from '../../torch/index.js';

export type Phase = 'forward' | 'backward';

/** Gradients of one segment's trainable parameters by name; `null` where the segment gave none in this micro-batch. */
export type SegmentGradients = ReadonlyMap<string, Tensor | null>;

export interface ParameterStore {
  /** The segment is about to run: its parameters must be in place. */
  acquire(segment: SegmentBase, phase: Phase): void;
  /** The segment will run next but one: its parameters may begin to travel. */
  prefetch(segment: SegmentBase): void;
  /** The segment has run: its parameters may go until it is acquired again. */
  release(segment: SegmentBase): void;
  /**
   * The gradients of the sum of the losses, times the seed. The store owns these tensors from now on.
   * A parameter that several segments share comes once for each of them.
   */
  accept(segment: SegmentBase, gradients: SegmentGradients): void;
}
