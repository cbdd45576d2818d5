/**
 * What a segment keeps between forward and backward: its whole graph, only the tensor before it, or that tensor in host
 * memory. Policies are per segment, so "keep as many blocks as fit and recompute the rest" is one number.
 */

import type { Segment } from '../../models/index.js';
import { UsageError } from '../../base/errors.js';

export type MemoryPolicy = 'keep' | 'recompute' | 'offload';

export interface PolicyChoice {
  /** Policy of blocks that are not kept. @default 'recompute' */
  readonly policy?: MemoryPolicy;
  /** Number of blocks, counted from the last, that keep their graph. @default 0 */
  readonly keep?: number;
}

/**
 * One policy per segment. Blocks at the end are kept first: their graphs are freed first, before the others are recomputed.
 *
 * @throws UsageError `E_POLICY` for more blocks than there are.
 */
export function memoryPolicies(
  segments: readonly Segment[],
  { policy = 'recompute', keep = 0 }: PolicyChoice,
): MemoryPolicy[] {
  if (!Number.isInteger(keep) || keep < 0 || keep > segments.length) {
    throw new UsageError(`memory.keep is ${keep}; the model has ${segments.length} segments`, {
      code: 'E_POLICY',
      hint: `Give a whole number from 0 to ${segments.length}.`,
    });
  }
  return segments.map((_, i) => (i >= segments.length - keep ? 'keep' : policy));
}
