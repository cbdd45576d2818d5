/** A count of the collectives of a group, to be held against what a plan says they should be. */

import type { DType } from '../torch/index.js';

export type CollectiveKind =
  'all-reduce' | 'reduce-scatter' | 'all-gather' | 'broadcast' | 'barrier';

/** Calls of one kind on tensors of one dtype. */
export interface CollectiveCount {
  readonly kind: CollectiveKind;
  /** `null` for a barrier. */
  readonly dtype: DType | null;
  readonly calls: number;
  /** Elements of the whole tensors: all shards of a reduce-scatter or an all-gather together. */
  readonly elements: number;
}

/** Counts calls, not what the backend sends for them. */
export class Ledger {
  private readonly counts = new Map<
    string,
    { -readonly [K in keyof CollectiveCount]: CollectiveCount[K] }
  >();

  add(kind: CollectiveKind, dtype: DType | null, elements: number): void {
    const key = `${kind} ${dtype ?? ''}`;
    const count = this.counts.get(key);
    if (count === undefined) {
      this.counts.set(key, { kind, dtype, calls: 1, elements });
    } else {
      count.calls++;
      count.elements += elements;
    }
  }

  /** One for each kind and dtype, in the order of their first calls. */
  list(): CollectiveCount[] {
    return [...this.counts.values()].map((count) => ({ ...count }));
  }

  /** Starts from nothing. */
  clear(): void {
    this.counts.clear();
  }
}
