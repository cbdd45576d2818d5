/**
 * What trains: each part of the model is frozen, trained fully, or adapted by LoRA. Sets `requiresGrad` on what trains, attaches
 * adapters, and says which learning rate and decay each parameter gets.
 */

import { UsageError } from '../../base/errors.js';
import { matchesAny, matchesName } from '../../base/name-pattern.js';
import { loraOf, type LoraRecipe, type PartRecipe, type Recipe } from '../../config/index.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { moduleOf } from '../../formats/layouts/rename.js';
import { MODEL_PARTS, type ModelPart } from '../../formats/index.js';
import { laySideBySide, type ParameterSources, type SegmentedModel } from '../../models/index.js';
import { linearsOf, type LoraAdapter, weightName } from '../../nn/index.js';
import type { ParameterGroup } from '../../optim/index.js';
import type { Device, DType, RandomGenerator, Tensor } from '../../torch/index.js';
import { quantisedWeights, trainsQuantised } from './bases.js';
import { notInt8 } from './int8-states.js';

/** One line of the table that is shown before the first update. */
export interface TrainableRow {
  readonly part: ModelPart;
  /** `full`, `LoRA r 16`, `saved module` or `frozen`. */
  readonly kind: string;
  readonly tensors: number;
  readonly parameters: number;
  readonly dtype: string;
  readonly learningRate: number | null;
  readonly weightDecay: number | null;
}

export interface Trainable {
  /** By full name; every one is a leaf that asks for a gradient. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly groups: readonly ParameterGroup[];
  readonly table: readonly TrainableRow[];
}

export interface TrainableOptions {
  readonly train: Recipe['train'];
  readonly optimizer: Recipe['optimizer'];
  /** dtype of new adapters. */
  readonly dtype: DType;
  readonly device: Device;
  /** Draws new adapters. */
  readonly generator: RandomGenerator;
  /** Of a hollow model: new adapters are drawn when its parts are filled. @default none */
  readonly sources?: { readonly from: ParameterSources; readonly seed: number } | null;
  /** Factor on all learning rates. @default 1 */
  readonly learningRateScale?: number;
}

/**
 * Prepares a model for training.
 *
 * @throws UsageError `E_TRAIN_PATTERN` for a target, module or group pattern that matches nothing, `E_QUANTISED_FULL` for what is to
 *   learn in 4 bits, `E_TRAIN_NOTHING` if nothing would learn.
 */
export function prepareTrainable(model: SegmentedModel, options: TrainableOptions): Trainable {
  const { train, optimizer, dtype, device, generator, sources, learningRateScale = 1 } = options;
  for (const parameter of model.parameters()) parameter.requiresGrad_(false);
  for (const part of MODEL_PARTS) {
    const lora = loraOf(train[part]);
    if (lora !== undefined) attachAdapters(model, part, lora, dtype);
  }
  if (sources) {
    sources.from.drawRest(model, sources);
    model.placeBuffers(device);
  } else {
    model.initialize(device, { generator });
    laySideBySide(model);
  }

  const chosen = new Map<
    string,
    { tensor: Tensor; part: ModelPart; kind: string; ratio: number }
  >();
  const adapters = adaptersOf(model);
  const quantised = quantisedWeights(model);
  for (const part of MODEL_PARTS) {
    const choice = train[part];
    for (const [name, tensor] of parametersOf(model, part)) {
      const kind = kindOf(name, choice, adapters);
      if (kind === null || chosen.has(name)) continue;
      if (quantised.has(weightName(name))) throw trainsQuantised(part, name, kind);
      const { loraPlusRatio = 1 } = loraOf(choice) ?? {};
      const ratio = name.endsWith('lora_B.weight') ? loraPlusRatio : 1;
      chosen.set(name, { tensor: tensor.requiresGrad_(), part, kind, ratio });
    }
  }
  for (const [name, adapter] of adapters) {
    if (!chosen.has(`${name}.lora_A.weight`)) adapter.dropout = 0;
  }
  if (chosen.size === 0) {
    throw new UsageError('nothing would learn: the parts that are to train have no parameters', {
      code: 'E_TRAIN_NOTHING',
      hint: 'Set a part that the model has to full, or give it a LoRA.',
    });
  }
  for (const { parameters } of optimizer.groups) {
    requireMatch([...chosen.keys()], parameters, 'optimizer.groups', 'parameter that trains');
  }

  const groups = new Map<
    string,
    { rate: number; decay: number; parameters: Map<string, Tensor> }
  >();
  const rows = new Map<string, TrainableRow>();
  for (const [name, { tensor, part, kind, ratio }] of chosen) {
    const group = optimizer.groups.find(({ parameters }) => matchesName(parameters, name));
    const rate = (group?.learningRate ?? optimizer.learningRate) * ratio * learningRateScale;
    const decays = optimizer.decayNormsAndBiases || tensor.ndim > 1;
    const decay = decays ? (group?.weightDecay ?? optimizer.weightDecay) : 0;
    const id = `${rate}/${decay}`;
    const found = groups.get(id) ?? { rate, decay, parameters: new Map<string, Tensor>() };
    groups.set(id, found);
    found.parameters.set(name, tensor);
    addRow(rows, { part, kind, tensor, rate, decay });
  }
  for (const part of MODEL_PARTS) {
    for (const [name, tensor] of parametersOf(model, part)) {
      if (chosen.has(name) || name !== weightName(name)) continue;
      const facts = quantised.get(name) ?? tensor;
      addRow(rows, { part, kind: 'frozen', tensor: facts, rate: null, decay: null });
    }
  }
  const plain = notInt8(model);
  return {
    parameters: new Map([...chosen].map(([name, { tensor }]) => [name, tensor])),
    groups: [...groups].map(([id, { rate, decay, parameters }]) => ({
      name: id,
      parameters,
      notInt8: plain,
      learningRate: rate,
      weightDecay: decay,
    })),
    table: [...rows.values()].sort((a, b) => order(a.part) - order(b.part)),
  };
}

const order = (part: ModelPart): number => MODEL_PARTS.indexOf(part);

/** The parameters that the segments of a part read: nothing above the selected layer of the tower. */
function parametersOf({ segments, head }: SegmentedModel, part: ModelPart): Map<string, Tensor> {
  return new Map(
    [...segments, head]
      .filter((segment) => segment.part === part)
      .flatMap((segment) => [...segment.parameters()]),
  );
}

/** By the names of the layers that they stand beside. */
function adaptersOf(model: SegmentedModel): Map<string, LoraAdapter> {
  return new Map(
    linearsOf(model).flatMap(([name, { adapter }]) => (adapter ? [[name, adapter]] : [])),
  );
}

/** How a parameter trains; `null` if it does not. */
function kindOf(
  name: string,
  choice: PartRecipe,
  adapters: ReadonlyMap<string, LoraAdapter>,
): string | null {
  const lora = loraOf(choice);
  if (choice === 'full') return isAdapterTensor(name) ? null : 'full';
  if (lora === undefined) return null;
  if (isAdapterTensor(name)) {
    const { rank, dora, rsLora } = adapters.get(name.slice(0, name.indexOf('.lora_')))!;
    return `${dora ? 'DoRA' : rsLora ? 'rsLoRA' : 'LoRA'} r ${rank}`;
  }
  const saves = lora.modulesToSave.some((pattern) => matchesModule(pattern, moduleOf(name)));
  return saves ? 'saved module' : null;
}

/** A pattern names a module, or one above it. */
export function matchesModule(pattern: string, module: string): boolean {
  return matchesAny([pattern, `${pattern}.*`, `*.${pattern}`], module);
}

function attachAdapters(
  model: SegmentedModel,
  part: ModelPart,
  lora: LoraRecipe,
  dtype: DType,
): void {
  const names = parametersOf(model, part);
  const linears = linearsOf(model).filter(
    ([name]) => names.has(`${name}.weight`) && name !== 'lm_head',
  );
  if (lora.targets !== 'all-linear') {
    for (const pattern of lora.targets) {
      requireMatch(
        linears.map(([name]) => name),
        pattern,
        `train.${part}.lora.targets`,
        'linear layer',
      );
    }
  }
  for (const pattern of lora.modulesToSave) {
    const modules = [...names.keys()].map(moduleOf);
    if (modules.some((module) => matchesModule(pattern, module))) continue;
    throw noMatch(pattern, `train.${part}.lora.modulesToSave`, 'module', modules);
  }
  const { rank, alpha, dropout, rslora: rsLora, dora, targets } = lora;
  // An adapter that the model came with trains on as it is. New ones beside it have to be named.
  const goesOn = linears.some(([, linear]) => linear.adapter !== undefined);
  const wants = (name: string): boolean =>
    targets === 'all-linear' ? !goesOn : matchesAny(targets, name);
  for (const [name, linear] of linears) {
    if (linear.adapter === undefined && wants(name))
      linear.attachAdapter({ rank, alpha, dropout, rsLora, dora, dtype });
  }
}

function requireMatch(
  names: readonly string[],
  pattern: string,
  field: string,
  what: string,
): void {
  if (!names.some((name) => matchesName(pattern, name))) throw noMatch(pattern, field, what, names);
}

function noMatch(
  pattern: string,
  field: string,
  what: string,
  names: readonly string[],
): UsageError {
  return new UsageError(`${field}: '${pattern}' matches no ${what}`, {
    code: 'E_TRAIN_PATTERN',
    hint: `Use names such as '${names[0] ?? 'none'}'; '*' stands for anything.`,
  });
}

interface RowParts {
  readonly part: ModelPart;
  readonly kind: string;
  readonly tensor: { readonly numel: number; readonly dtype: string };
  readonly rate: number | null;
  readonly decay: number | null;
}

function addRow(
  rows: Map<string, TrainableRow>,
  { part, kind, tensor, rate, decay }: RowParts,
): void {
  const id = [part, kind, tensor.dtype, rate, decay].join();
  const before = rows.get(id);
  rows.set(id, {
    part,
    kind,
    tensors: (before?.tensors ?? 0) + 1,
    parameters: (before?.parameters ?? 0) + tensor.numel,
    dtype: tensor.dtype,
    learningRate: rate,
    weightDecay: decay,
  });
}
