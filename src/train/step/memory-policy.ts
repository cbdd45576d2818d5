/**
 * What a segment keeps between forward and backward: its whole graph, only the tensor before it, or that tensor in host
 * memory. Policies are per part of the model, and of a part with blocks the last ones may keep their graph whatever its policy
 * says, so "keep as many blocks as fit and recompute the rest" is one number.
 */

import { UsageError } from '../../base/errors.js';
import type { MemoryPolicy, Recipe } from '../../config/index.js';
import type { ModelPart } from '../../formats/index.js';
import type { Segment } from '../../models/index.js';

export type { MemoryPolicy };

/** The fields of a recipe's `memory` that say it. */
export type PolicyChoice = Partial<Pick<Recipe['memory'], 'policy' | 'keepBlocks'>>;

/**
 * One policy per segment. Blocks at the end are kept first: their graphs are freed first, before the others are recomputed.
 *
 * @throws UsageError `E_POLICY` for more blocks than the part has
 */
export function memoryPolicies(
  segments: readonly Segment[],
  { policy = 'recompute', keepBlocks = 0 }: PolicyChoice,
): MemoryPolicy[] {
  const kept = typeof keepBlocks === 'number' ? { decoder: keepBlocks } : keepBlocks;
  const keeping = new Set<Segment>();
  for (const [part, count] of Object.entries(kept) as [ModelPart, number][]) {
    const blocks = segments.filter((segment) => segment.part === part && segment.isBlock);
    if (count > blocks.length) {
      const field =
        typeof keepBlocks === 'number' ? 'memory.keepBlocks' : `memory.keepBlocks.${part}`;
      const there = `${blocks.length} ${blocks.length === 1 ? 'block' : 'blocks'}`;
      throw new UsageError(`${field} is ${count}; the ${WORDS[part]} has ${there}`, {
        code: 'E_POLICY',
        hint: `Give a whole number from 0 to ${blocks.length}.`,
      });
    }
    for (const block of blocks.slice(blocks.length - count)) keeping.add(block);
  }
  const policyOf = ({ part }: Segment): MemoryPolicy =>
    typeof policy === 'string' ? policy : (policy[part] ?? 'recompute');
  return segments.map((segment) => (keeping.has(segment) ? 'keep' : policyOf(segment)));
}

const WORDS = {
  vision: 'vision tower, up to the layer whose features are used,',
  projector: 'projector',
  decoder: 'decoder',
} as const satisfies Record<ModelPart, string>;
