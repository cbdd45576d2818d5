/** Sentences about what an export changes. */
import type { StoredTensor } from '../../formats/stored.js';
import type { Nf4Form } from '../../nn/index.js';
import type { DType } from '../../torch/index.js';
import type { LlavaConfig } from '../configs/llava-config.js';
import { torchDType } from '../load/stored-dtype.js';
import { unusedChoices } from '../load/unused-choices.js';
import type { ExportOptions } from './export-options.js';

/** Which tensors change their type. */
export function conversions(weights: ReadonlyMap<string, StoredTensor>, dtype: DType): string[] {
  const counts = new Map<DType, number>();
  for (const tensor of weights.values()) {
    if (tensor.form !== undefined) continue;
    const stored = torchDType(tensor);
    if (stored !== dtype) counts.set(stored, (counts.get(stored) ?? 0) + 1);
  }
  return [...counts].map(
    ([stored, count]) => `${plural(count, 'tensor')} converted from ${stored} to ${dtype}.`,
  );
}

/** What becomes of matrices that are held in few bits, or are to be written in NF4. */
export function quantisedNotes(
  weights: ReadonlyMap<string, StoredTensor>,
  {
    adapters,
    dtype,
    quantise,
  }: { adapters: readonly unknown[]; dtype: DType; quantise: Nf4Form | undefined },
): string[] {
  const held = [...weights.values()].flatMap(({ form }) => form?.name ?? []);
  if (quantise !== undefined) {
    const again = held.includes('nf4') && adapters.length > 0;
    return [
      `The matrices of the decoder's blocks are written in NF4, as bitsandbytes keeps them.`,
      ...(again
        ? ['Those with an adapter in them are quantised anew, which loses a part of it.']
        : []),
    ];
  }
  return (['nf4', 'fp8'] as const).flatMap((name) => {
    const count = held.filter((each) => each === name).length;
    if (count === 0) return [];
    const what = `${plural(count, 'matrix', 'matrices')} held in ${name === 'nf4' ? 'NF4' : name}`;
    return `${what} ${count === 1 ? 'is' : 'are'} written as the numbers that the codes stand for, rounded once to ${dtype}: answers are not to the bit those of the quantised model.`;
  });
}

/** What was chosen for the case that no file says it, and one does. */
export function unusedNotes(
  config: LlavaConfig,
  { featureLayer, select }: ExportOptions,
): string[] {
  return unusedChoices(config, { featureLayer, featureSelect: select }).map(
    ({ name, given, said }) =>
      `The configuration says ${name === 'featureLayer' ? 'layer ' : ''}${said}; ${given} was not used.`,
  );
}

/** `1 tensor`, `2 tensors`. */
export function plural(count: number, what: string, many = `${what}s`): string {
  return `${count} ${count === 1 ? what : many}`;
}
