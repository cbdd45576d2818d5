/** Sentences about what an export changes. */
import { plural } from '../../base/format.js';
import type { StoredTensor } from '../../formats/stored.js';
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

/** What becomes of matrices that are held in few bits, or are to be written in NF4: those of `inNf4`, by name. */
export function quantisedNotes(
  weights: ReadonlyMap<string, StoredTensor>,
  {
    adapters,
    dtype,
    inNf4,
  }: { adapters: readonly unknown[]; dtype: DType; inNf4: ReadonlySet<string> | undefined },
): string[] {
  const all = [...weights].flatMap(([name, { form }]) =>
    form === undefined ? [] : [{ form: form.name, isDense: inNf4?.has(name) !== true }],
  );
  const again = all.some(({ form, isDense }) => form === 'nf4' && !isDense) && adapters.length > 0;
  const dense = (['nf4', 'fp8'] as const).flatMap((name) => {
    const count = all.filter(({ form, isDense }) => form === name && isDense).length;
    if (count === 0) return [];
    const what = `${plural(count, 'matrix', 'matrices')} held in ${name === 'nf4' ? 'NF4' : name}`;
    return `${what} ${count === 1 ? 'is' : 'are'} written as the numbers that the codes stand for, rounded once to ${dtype}: answers are not to the bit those of the quantised model.`;
  });
  return [
    ...(inNf4 === undefined
      ? []
      : [`The matrices of the decoder's blocks are written in NF4, as bitsandbytes keeps them.`]),
    ...(again
      ? ['Those with an adapter in them are quantised anew, which loses a part of it.']
      : []),
    ...dense,
  ];
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
