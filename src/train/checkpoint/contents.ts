/**
 * What a checkpoint holds: what trains, and whatever else of the model is not what lies beneath it: a projector of a first stage, an
 * adapter that stays as it is, a weight into which one was folded. So what comes out of a run is the model whose loss was shown.
 */

import { UsageError } from '../../base/errors.js';
import { isAdapterTensor, peftName } from '../../formats/layouts/adapter-names.js';
import { moduleOf, partOf, toStoredName } from '../../formats/layouts/rename.js';
import {
  IMAGE_NEWLINE,
  LAYOUTS,
  ownPrefixes,
  PART_NAMES,
  type Prefixes,
  TEXT_PREFIXES,
} from '../../formats/layouts/tables.js';
import type { ParameterSources, SegmentedModel } from '../../models/index.js';
import { type Linear, linearsOf } from '../../nn/index.js';
import type { Tensor } from '../../torch/index.js';
import type { Trainable } from '../prepare/trainable.js';

/** A parameter under the name that it has in the file. */
export interface NamedParameter {
  readonly name: string;
  /** Its name in the model. */
  readonly parameter: string;
}

export interface CheckpointContents {
  /** A PEFT adapter; a whole model; or parts that stand on others. */
  readonly kind: 'adapter' | 'model' | 'parts';
  readonly tensors: readonly NamedParameter[];
  /** Layers with an adapter, by their names. */
  readonly adapters: readonly (readonly [string, Linear])[];
  /** Modules that an adapter holds as a whole. */
  readonly saved: readonly string[];
  /** Whether an adapter holds embeddings that are the head too. */
  readonly tied: boolean;
}

export interface ContentsOptions {
  readonly model: SegmentedModel;
  readonly trainable: Pick<Trainable, 'parameters' | 'table'>;
  /** Whether what the model stands on gives a parameter by itself. */
  readonly isBeneath: (name: string) => boolean;
}

export interface FoldOptions extends Pick<ContentsOptions, 'model' | 'trainable'> {
  /** Of a hollow model. @default none: the model holds its parameters */
  readonly sources?: ParameterSources | null;
}

/** @throws UsageError `E_ADAPTER_FORM` for parts that train with and without DoRA, which PEFT cannot keep in one adapter */
export function contentsOf(options: ContentsOptions): CheckpointContents {
  const { model } = options;
  const folded = foldOtherForm(options);
  const isBeneath = (name: string): boolean => options.isBeneath(name) && !folded.has(name);
  const own = ownPrefixes(model.input.image === null);
  const adapters = adaptedLayers(model);
  const parameters = model.namedParameters();
  const needed = new Set(
    [...parameters.keys()].filter(
      (name) => options.trainable.parameters.has(name) || !isBeneath(name),
    ),
  );
  if (adapters.length > 0) return adapterContents(options, { parameters, needed, adapters, own });
  const isWhole = [...parameters.keys()].every(
    (name) => !isOfDecoder(name, own) || needed.has(name),
  );
  const modules = savedModules(options, needed, own);
  const held = [...parameters.keys()].filter((name) => isWhole || isIn(name, modules));
  const tensors = held.map((parameter) => ({ name: hfName(parameter, own), parameter }));
  return { kind: isWhole ? 'model' : 'parts', tensors, adapters, saved: [], tied: false };
}

interface AdapterParts {
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly needed: ReadonlySet<string>;
  readonly adapters: CheckpointContents['adapters'];
  readonly own: Prefixes;
}

function adapterContents(
  options: ContentsOptions,
  { parameters, needed, adapters, own }: AdapterParts,
): CheckpointContents {
  const layers = new Set(adapters.map(([path]) => path));
  const isUnder = (name: string): boolean => layers.has(moduleOf(name));
  const modules = savedModules(
    options,
    new Set([...needed].filter((name) => !isAdapterTensor(name) && !isUnder(name))),
    own,
  );
  const tensors: NamedParameter[] = [];
  for (const name of parameters.keys()) {
    const isHeld = isUnder(name) ? needed.has(name) : isIn(name, modules);
    if (isAdapterTensor(name) || isHeld)
      tensors.push({ name: peftName(name, layers), parameter: name });
  }
  // PEFT would leave the other side of a tied pair as it was.
  const twins = [...options.model.tied].filter(([, target]) => isIn(target, modules));
  for (const [name, target] of twins) {
    tensors.push({ name: peftName(name, layers), parameter: target });
  }
  // PEFT knows modules alone.
  const wrapped = modules.filter((path) => path !== IMAGE_NEWLINE);
  const saved = [...wrapped, ...twins.map(([name]) => moduleOf(name))];
  return { kind: 'adapter', tensors, adapters, saved, tied: twins.length > 0 };
}

/** The modules that are held as a whole: whole parts, else those right above the parameters. */
function savedModules(
  { model, trainable: { table } }: ContentsOptions,
  needed: ReadonlySet<string>,
  own: Prefixes,
): string[] {
  const parameters = [...model.namedParameters().keys()];
  const modules = new Set<string>();
  for (const part of PART_NAMES) {
    const names = parameters.filter((name) => partOf(name, own) === part);
    const held = names.filter((name) => needed.has(name));
    if (held.length === 0) continue;
    const trains = part === 'head' ? 'decoder' : part;
    const isFull = table.some(({ part: each, kind }) => each === trains && kind === 'full');
    const isWhole =
      names.every((name) => needed.has(name)) || (isFull && !names.some(isAdapterTensor));
    // Within a whole decoder PEFT finds no embeddings that it could tie.
    const isApart = part === 'decoder' && model.tied.size > 0;
    if (isWhole && !isApart) modules.add(own[part]!.slice(0, -1));
    else for (const name of held) if (name !== IMAGE_NEWLINE) modules.add(moduleOf(name));
    // It is in no module of the part, and held by its own name.
    if (held.includes(IMAGE_NEWLINE)) modules.add(IMAGE_NEWLINE);
  }
  // One within another is held with that.
  return [...modules].filter(
    (path) =>
      !isIn(
        path,
        [...modules].filter((other) => other !== path),
      ),
  );
}

/**
 * One PEFT adapter is either DoRA or plain. What does not train and is of the other form becomes part of the weights.
 *
 * @returns names of the weights
 */
export function foldOtherForm({
  model,
  trainable,
  sources = null,
}: FoldOptions): ReadonlySet<string> {
  const layers = adaptedLayers(model);
  const trains = ([path]: readonly [string, Linear]): boolean =>
    trainable.parameters.has(`${path}.lora_A.weight`);
  const trained = layers.filter(trains);
  const forms = new Set(trained.map(([, linear]) => linear.adapter!.dora));
  if (forms.size > 1) {
    throw new UsageError('one part trains by DoRA and another by plain LoRA', {
      code: 'E_ADAPTER_FORM',
      hint: 'Give both the same form: one PEFT adapter cannot hold two.',
    });
  }
  const [form = layers[0]?.[1].adapter?.dora] = forms;
  const folded = new Set<string>();
  for (const [path, linear] of layers) {
    if (linear.adapter!.dora === form) continue;
    if (sources === null) linear.mergeAdapter();
    else sources.fold(path, linear);
    folded.add(`${path}.weight`);
  }
  return folded;
}

function adaptedLayers(model: SegmentedModel): CheckpointContents['adapters'] {
  return linearsOf(model).filter(([, { adapter }]) => adapter !== undefined);
}

/** A name in Hugging Face's layout; that of a decoder alone is its own. */
function hfName(name: string, own: Prefixes): string {
  return own === TEXT_PREFIXES ? name : toStoredName(LAYOUTS.hf, name, own)!;
}

function isOfDecoder(name: string, own: Prefixes): boolean {
  const part = partOf(name, own);
  return part === 'decoder' || part === 'head';
}

function isIn(name: string, modules: readonly string[]): boolean {
  return modules.some((path) => name === path || name.startsWith(`${path}.`));
}
