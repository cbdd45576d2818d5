/** Parts whose frozen weights are held in fewer bits (QLoRA): which, what they may not, and what that saves and costs. */

import { UsageError } from '../../base/errors.js';
import { formatBytes } from '../../base/format.js';
import { loraOf, type Recipe } from '../../config/index.js';
import { partOf } from '../../formats/layouts/rename.js';
import { ownPrefixes } from '../../formats/layouts/tables.js';
import type { ModelPart } from '../../formats/index.js';
import type { BaseForms, BaseOption, SegmentedModel } from '../../models/index.js';
import { linearsOf, Nf4, type QuantisedForm, type Weight } from '../../nn/index.js';
import { dtypeBytes } from '../../torch/index.js';
import { matchesModule } from './trainable.js';

/** What a choice of number types saves and costs; told before the first update. */
export interface ChoiceRow {
  readonly choice: string;
  /** Bytes on the device. */
  readonly saves: number;
  readonly costs: string;
  /** What it does to numbers. */
  readonly numerics: string;
}

/** The forms that a recipe asks for; modules that train fully beside an adapter stay as they are. */
export function basesOf(train: Recipe['train']): BaseForms<BaseOption> {
  const formOf = (choice: Recipe['train']['decoder']): BaseOption | undefined => {
    if (typeof choice !== 'object' || choice.base === undefined) return undefined;
    const { modulesToSave = [] } = loraOf(choice) ?? {};
    const { base, doubleQuantised } = choice;
    return {
      ...(base === 'nf4' ? { form: base, doubleQuantised } : { form: base }),
      except: (module) => modulesToSave.some((pattern) => matchesModule(pattern, module)),
    };
  };
  const forms = { vision: formOf(train.vision), decoder: formOf(train.decoder) };
  // What is not asked for is left to what the run starts from.
  return Object.fromEntries(Object.entries(forms).filter(([, form]) => form !== undefined));
}

/** A matrix in few bits, as tables count it. */
interface Quantised {
  readonly weight: Weight;
  readonly form: QuantisedForm;
  readonly numel: number;
  readonly dtype: string;
}

/** By the names of the weights. */
export function quantisedWeights(model: SegmentedModel): ReadonlyMap<string, Quantised> {
  return new Map(
    linearsOf(model).flatMap(([name, { base: weight, inFeatures, outFeatures }]) => {
      const { form } = weight;
      if (form === undefined) return [];
      const { dtype } = form;
      return [[`${name}.weight`, { weight, form, numel: inFeatures * outFeatures, dtype }]];
    }),
  );
}

export function trainsQuantised(part: ModelPart, name: string, kind: string): UsageError {
  const field = kind === 'full' ? `train.${part}: full` : `train.${part}.lora.modulesToSave`;
  return new UsageError(`${field}: ${name} is in few bits, in which nothing can learn`, {
    code: 'E_QUANTISED_FULL',
    hint: 'Give the part a LoRA, or start from weights before the quantisation; `patina export MODEL --to hf OUT` writes what its codes stand for.',
  });
}

/**
 * Weights in few bits lie in no checkpoint: those who read it quantise the same base again.
 *
 * @throws UsageError `E_QUANTISED_BASE` for some that lie in no base
 */
export function requireBeneath(model: SegmentedModel, isBeneath: (name: string) => boolean): void {
  const lost = [...quantisedWeights(model).keys()].find((name) => !isBeneath(name));
  if (lost === undefined) return;
  throw new UsageError(`${lost} is in few bits, and no model that the run stands on gives it`, {
    code: 'E_QUANTISED_BASE',
    hint: 'Write the model that the run starts from as a folder of its own (`patina export`), and start from that.',
  });
}

/**
 * What is stored in few bits stays so, and cannot be held as a recipe asks in another form.
 *
 * @throws UsageError `E_QUANTISED_BASE`
 */
export function requireForms(model: SegmentedModel, train: Recipe['train']): void {
  const own = ownPrefixes(model.input.image === null);
  for (const [name, { dtype }] of quantisedWeights(model)) {
    const part = partOf(name, own);
    if (part !== 'vision' && part !== 'decoder') continue;
    const choice = train[part];
    const asked = typeof choice === 'object' ? choice.base : undefined;
    if (asked === undefined || asked === dtype) continue;
    throw new UsageError(`train.${part}.base: ${asked}: ${name} is stored in ${dtype}`, {
      code: 'E_QUANTISED_BASE',
      hint: 'Leave `base` out, or start from dense weights: `patina export MODEL --to hf OUT` writes what its codes stand for.',
    });
  }
}

/** A row for each part that has weights in few bits; what it costs depends on the device. */
export function baseChoices(model: SegmentedModel, device: string): ChoiceRow[] {
  const own = ownPrefixes(model.input.image === null);
  const byChoice = new Map<string, Quantised[]>();
  for (const [name, quantised] of quantisedWeights(model)) {
    const choice = `${partOf(name, own) ?? ''} in ${formName(quantised.form)}`;
    byChoice.set(choice, [...(byChoice.get(choice) ?? []), quantised]);
  }
  return [...byChoice].map(([choice, all]) => {
    const dense = (each: Quantised): number => each.numel * dtypeBytes(each.weight.dtype);
    const total = (of: (each: Quantised) => number): number =>
      all.reduce((sum, each) => sum + of(each), 0);
    const kept = total(({ weight }) => weight.bytes);
    const written = total(dense);
    const { form, weight } = all[0]!;
    const saves = written - kept;
    if (form.dtype === 'fp8') {
      return {
        ...{ choice, saves },
        costs:
          device === 'cpu'
            ? 'products of codes in fp32, which save no time: a CPU has none in fp8'
            : `${formatBytes(2 * kept)} read and written in each backward to lay codes out for it; products take about half the time`,
        numerics:
          'frozen weights, and what they multiply, are off by about 2.6 % (root mean square)',
      };
    }
    return {
      ...{ choice, saves },
      costs: `${formatBytes(kept + written)} read and written in each forward and backward to make weights dense`,
      numerics: `frozen weights are off by about 9 % (root mean square), ${weight.dtype} products`,
    };
  });
}

/** As people read it. */
export function formName(form: QuantisedForm): string {
  if (!(form instanceof Nf4)) return form.dtype;
  return form.doubleQuantised ? 'NF4, scales in 8 bits' : 'NF4';
}
