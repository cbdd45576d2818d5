/** The model of a run without files: of a configuration, in the forms that a recipe asks for. */

import type { Recipe } from '../config/index.js';
import { ownPrefixes } from '../formats/layouts/tables.js';
import type { StoredTensor } from '../formats/stored.js';
import {
  Llava,
  TextModel,
  type DecoderConfig,
  type LanguageModel,
  type LlavaConfig,
} from '../models/index.js';
import { inForms } from '../models/load/base-form.js';
import { quantise } from '../models/load/load.js';
import { kernelsFor } from '../nn/index.js';
import type { ChosenDevice, Device } from '../torch/index.js';
import { basesOf } from '../train/prepare/bases.js';
import type { ChosenPrecision } from '../train/prepare/precision.js';

/** What a run without files needs to know of the model. */
export type ModelConfig =
  | { readonly kind: 'llava'; readonly config: LlavaConfig }
  | { readonly kind: 'text'; readonly config: DecoderConfig };

export interface HollowOptions {
  readonly recipe: Recipe;
  readonly device: ChosenDevice;
  readonly precision: ChosenPrecision;
  /** Whose kernels run. @default the device's */
  readonly kernels?: Device;
}

/** A model as a recipe holds it, without weights; the caller disposes of it. */
export function hollowModel(described: ModelConfig, options: HollowOptions): LanguageModel {
  const model = modelOf(described, options);
  holdInForms(model, options.recipe, options.device.device);
  return model;
}

function modelOf(
  { kind, config }: ModelConfig,
  { device: chosen, precision, kernels = chosen.device }: HollowOptions,
): LanguageModel {
  const dtype = precision.compute;
  const device = kernels === 'cuda' ? 'cuda:0' : kernels;
  const computeCapability = chosen.capability ?? 0;
  const build = { dtype, kernels: kernelsFor({ device, dtype, computeCapability }) };
  if (kind === 'text') return new TextModel(config, build);
  const model = new Llava(config, build);
  model.normaliseBy(new Float32Array(768));
  return model;
}

/** Frozen weights in the forms that the recipe asks for, as loading would find them. */
function holdInForms(model: LanguageModel, { train }: Recipe, device: Device): void {
  const prefixes = ownPrefixes(model.input.image === null);
  const stored = new Map<string, StoredTensor>();
  for (const [name, { shape }] of model.namedParameters()) {
    stored.set(name, { name, shape, dtype: 'BF16', file: '', offset: 0, bytes: 0 });
  }
  quantise(model, inForms(stored, new Set(stored.values()), basesOf(train), prefixes), device);
}
