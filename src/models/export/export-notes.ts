/** Sentences about what an export changes. */
import type { StoredTensor } from '../../formats/stored.js';
import type { Nf4Form } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import { torchDType } from '../load/stored-dtype.js';

/** Which tensors change their type. */
export function conversions(weights: ReadonlyMap<string, StoredTensor>, dtype: DType): string[] {
  const counts = new Map<DType, number>();
  for (const tensor of weights.values()) {
    if (tensor.nf4 !== undefined) continue;
    const stored = torchDType(tensor);
    if (stored !== dtype) counts.set(stored, (counts.get(stored) ?? 0) + 1);
  }
  return [...counts].map(
    ([stored, count]) => `${plural(count, 'tensor')} converted from ${stored} to ${dtype}.`,
  );
}

/** What becomes of matrices that are held in NF4, or are to be written so. */
export function nf4Notes(
  weights: ReadonlyMap<string, StoredTensor>,
  {
    adapters,
    dtype,
    quantise,
  }: { adapters: readonly unknown[]; dtype: DType; quantise: Nf4Form | undefined },
): string[] {
  const held = [...weights.values()].filter(({ nf4 }) => nf4 !== undefined).length;
  if (quantise !== undefined) {
    const again = held > 0 && adapters.length > 0;
    return [
      `The matrices of the decoder's blocks are written in NF4, as bitsandbytes keeps them.`,
      ...(again
        ? ['Those with an adapter in them are quantised anew, which loses a part of it.']
        : []),
    ];
  }
  if (held === 0) return [];
  return [
    `${plural(held, 'matrix', 'matrices')} held in NF4 ${held === 1 ? 'is' : 'are'} written as the numbers that the codes stand for, rounded once to ${dtype}: answers are not to the bit those of the quantised model.`,
  ];
}

/** `1 tensor`, `2 tensors`. */
export function plural(count: number, what: string, many = `${what}s`): string {
  return `${count} ${count === 1 ? what : many}`;
}
