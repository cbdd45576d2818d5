/** What of a source an export writes: the tensors that the model needs, compared with what is there, and their type. */
import { dirname } from 'node:path';

import { UsageError } from '../../base/errors.js';
import { plural } from '../../base/format.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { checkTensors, TensorsError } from '../../formats/layouts/check-tensors.js';
import type { WeightSource } from '../../formats/layouts/inspect.js';
import { IMAGE_NEWLINE } from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import type { DType } from '../../torch/index.js';
import type { LanguageModel } from '../language-model.js';
import type { AssembledAdapter, Assembly, TextAssembly } from '../load/assemble.js';
import { attachAdapters } from '../load/attach-adapters.js';
import { torchDType } from '../load/stored-dtype.js';
import { checkTied } from '../load/tied-check.js';
import { conversions, quantisedNotes } from './export-notes.js';
import type { ExportOptions } from './export-options.js';

export interface WeightPlan {
  /** By Patina's own names, without adapters. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly sources: readonly WeightSource[];
  /** To be folded in. */
  readonly adapters: readonly AssembledAdapter[];
  readonly dtype: DType;
  /** Tensors that are there and not written. */
  readonly unused: readonly string[];
}

/**
 * Compares what is there with what the model needs; `model` is on meta and is freed.
 *
 * @throws DataError `E_TENSORS`, `E_TIED`
 */
export async function planWeights(
  source: string,
  model: LanguageModel,
  { tensors, sources, adapters }: Assembly | TextAssembly,
  { dtype, allow = [], signal }: ExportOptions,
): Promise<WeightPlan> {
  try {
    attachAdapters(model, adapters, 'float32');
    const parameters = model.namedParameters();
    const {
      tensors: used,
      missing,
      unused,
    } = checkTensors({
      where: source,
      tensors,
      unexpected: sources.flatMap(({ unexpected }) => unexpected),
      expected: new Map([...parameters].map(([name, { shape }]) => [name, shape])),
      tied: model.tied,
      allow,
    });
    await checkTied({ where: source, tensors, sources, tied: model.tied, allow, signal });
    if (missing.length > 0) {
      const fault = (name: string) => ({ kind: 'missing', name, text: name }) as const;
      throw new TensorsError(source, missing.map(fault));
    }
    const weights = new Map([...used].filter(([name]) => !isAdapterTensor(name)));
    const embeddings = [...weights].find(([name]) => name.endsWith('embed_tokens.weight'))![1];
    return {
      tensors: weights,
      sources,
      adapters,
      dtype: dtype ?? torchDType(embeddings),
      unused,
    };
  } finally {
    model.dispose();
  }
}

/**
 * Refuses adapters that nobody said to fold in: after all that could not be written anyway, which --merge would not help.
 *
 * @throws UsageError `E_NOT_MERGED`
 */
export function refuseUnmerged(
  { adapters, sources }: Pick<WeightPlan, 'adapters' | 'sources'>,
  { merge = false }: Pick<ExportOptions, 'merge'>,
): void {
  if (adapters.length === 0 || merge) return;
  const names = [...new Set(adapters.map(({ file }) => dirname(file)))];
  const alone = !sources.some(({ isAdapter, tensors }) => isAdapter && tensors.has(IMAGE_NEWLINE));
  const hint = `Fold them into the weights (--merge)${alone ? ', or write them alone (--to peft)' : ''}.`;
  throw new UsageError(
    `A folder of a whole model has no place for adapters: ${names.join(', ')}.`,
    { code: 'E_NOT_MERGED', hint },
  );
}

/** What is folded in, and what is left out, a sentence each. */
export function foldNotes({ adapters, unused }: WeightPlan): string[] {
  return [
    ...(adapters.length === 0
      ? []
      : [`${plural(adapters.length, 'adapter')} folded in, computed in float32.`]),
    ...(unused.length === 0 ? [] : [`Left out: ${unused.join(', ')}.`]),
  ];
}

/** What is written otherwise than it was found, a sentence each. */
export function planNotes(plan: WeightPlan, inNf4: ReadonlySet<string> | undefined): string[] {
  const { tensors, adapters, dtype } = plan;
  return [
    ...conversions(tensors, dtype),
    ...foldNotes(plan),
    ...quantisedNotes(tensors, { adapters, dtype, inNf4 }),
  ];
}
