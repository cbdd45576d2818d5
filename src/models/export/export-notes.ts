/** Sentences about what an export changes. */
import type { StoredTensor } from '../../formats/stored.js';
import type { DType } from '../../torch/index.js';
import { torchDType } from '../load/stored-dtype.js';

/** Which tensors change their type. */
export function conversions(weights: ReadonlyMap<string, StoredTensor>, dtype: DType): string[] {
  const counts = new Map<DType, number>();
  for (const tensor of weights.values()) {
    const stored = torchDType(tensor);
    if (stored !== dtype) counts.set(stored, (counts.get(stored) ?? 0) + 1);
  }
  return [...counts].map(
    ([stored, count]) => `${plural(count, 'tensor')} converted from ${stored} to ${dtype}.`,
  );
}

/** `1 tensor`, `2 tensors`. */
export function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
