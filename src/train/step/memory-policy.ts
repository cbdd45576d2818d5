/**
 * What a segment keeps between forward and backward: everything, less of it level by level (`Level`), only the tensor before it, or that
 * tensor in host memory. Policies are per part of the model, and of a part with blocks the last ones may keep more than its policy
 * says, so "keep as much as fits and recompute the rest" is a number for each level.
 */

import { UsageError } from '../../base/errors.js';
import { plural } from '../../base/format.js';
import type { MemoryPolicy, Recipe } from '../../config/index.js';
import type { Level, Segment } from '../../models/index.js';

export type { MemoryPolicy };

/** The fields of a recipe's `memory` that say it. */
export type PolicyChoice = Partial<Pick<Recipe['memory'], 'policy' | 'keepBlocks'>>;

/** The levels of kept blocks, from the top. */
const LEVELS = ['keep', 'products', 'attention'] as const satisfies readonly Level[];

/**
 * One policy per segment. Blocks at the end keep most: what they keep is freed first, before the others compute again.
 *
 * @throws UsageError `E_POLICY` for more blocks than the part has
 */
export function memoryPolicies(
  segments: readonly Segment[],
  { policy = 'recompute', keepBlocks = 0 }: PolicyChoice,
): MemoryPolicy[] {
  const kept = typeof keepBlocks === 'number' ? { decoder: keepBlocks } : keepBlocks;
  const levels = new Map<Segment, Level>();
  for (const part of ['vision', 'decoder'] as const) {
    const chosen = kept[part] ?? 0;
    const counts = typeof chosen === 'number' ? { keep: chosen } : chosen;
    const blocks = segments.filter((segment) => segment.part === part && segment.isBlock);
    const total = LEVELS.reduce((sum, level) => sum + (counts[level] ?? 0), 0);
    if (total > blocks.length) {
      const field =
        typeof keepBlocks === 'number' ? 'memory.keepBlocks' : `memory.keepBlocks.${part}`;
      const there = plural(blocks.length, 'block');
      throw new UsageError(`${field} is ${total}; the ${WORDS[part]} has ${there}`, {
        code: 'E_POLICY',
        hint: `Give a whole number from 0 to ${blocks.length}.`,
      });
    }
    for (const level of LEVELS) {
      for (let i = counts[level] ?? 0; i > 0; i--) levels.set(blocks.pop()!, level);
    }
  }
  return segments.map((segment) => levels.get(segment) ?? policyOf(segment, policy));
}

/** By its part; a segment whose backward is not written by hand knows no levels between. */
function policyOf(
  { part, byHand }: Segment,
  policy: NonNullable<PolicyChoice['policy']>,
): MemoryPolicy {
  const chosen = typeof policy === 'string' ? policy : (policy[part] ?? 'recompute');
  const isBetween = chosen === 'products' || chosen === 'attention';
  return isBetween && byHand === undefined ? 'recompute' : chosen;
}

const WORDS = {
  vision: 'vision tower, up to the layer whose features are used,',
  decoder: 'decoder',
} as const;
