/** Which records are used, and which of them are held out for validation. */
import { Random } from './random.js';

/**
 * `limit` records of several sources, as shares in proportion to their sizes (largest remainders), so that a short trial
 * sees every source.
 */
export function shares(counts: readonly number[], limit: number): number[] {
  const total = counts.reduce((sum, count) => sum + count, 0);
  if (limit >= total) return [...counts];
  const exact = counts.map((count) => (count * limit) / total);
  const taken = exact.map(Math.floor);
  const byRemainder = counts
    .map((_, i) => i)
    .sort((a, b) => exact[b]! - taken[b]! - (exact[a]! - taken[a]!) || a - b);
  const missing = limit - taken.reduce((sum, count) => sum + count, 0);
  for (const i of byRemainder.slice(0, missing)) taken[i]!++;
  return taken;
}

export interface Split {
  /** What is left of each list to train on. */
  readonly train: Uint32Array[];
  /** In the order of the lists. */
  readonly heldOut: Uint32Array;
}

/** Lists one after another. */
export function joined(lists: readonly Uint32Array[]): Uint32Array {
  const all = new Uint32Array(lists.reduce((sum, list) => sum + list.length, 0));
  let filled = 0;
  for (const list of lists) {
    all.set(list, filled);
    filled += list.length;
  }
  return all;
}

/** Holds out a share of all records, at least one, chosen by the seed. */
export function holdOut(lists: readonly Uint32Array[], fraction: number, seed: number): Split {
  const all = joined(lists);
  const count = Math.max(1, Math.round(all.length * fraction));
  const heldOut = new Random(seed, 'validation').subset(all, count);
  const held = new Set(heldOut);
  return { train: lists.map((list) => list.filter((record) => !held.has(record))), heldOut };
}
