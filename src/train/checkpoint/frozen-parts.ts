/**
 * Parts of a model of which a run that goes on trains other ones than before. One that no longer trains keeps what it has learnt: its
 * weights and adapters are taken from the checkpoint, and stay in those that follow. One that did not train before begins with
 * what the checkpoint or the model beneath gives, and with fresh optimizer state.
 */

import { join } from 'node:path';
import { UsageError } from '../../base/errors.js';
import { isFrozen, type Recipe } from '../../config/index.js';
import { MODEL_PARTS, type ModelPart } from '../../formats/index.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { nameTensors } from '../../formats/layouts/name-tensors.js';
import { partOf } from '../../formats/layouts/rename.js';
import { ownPrefixes } from '../../formats/layouts/tables.js';
import { readJsonObject } from '../../formats/small-file.js';
import type { StoredTensor } from '../../formats/stored.js';
import { openWeights } from '../../formats/weights.js';
import { readAdapterConfig } from '../../models/load/adapter-config.js';
import { attachAdapters } from '../../models/load/attach-adapters.js';
import type { AssembledAdapter } from '../../models/load/assemble.js';
import type { ParameterSources, SegmentedModel } from '../../models/index.js';
import { linearsOf } from '../../nn/index.js';
import { parameterOf } from '../../optim/index.js';
import { ALONE, wholeParts } from '../../parallel/index.js';
import { RandomGenerator, type Device, type DType, type Tensor } from '../../torch/index.js';
import { formName, quantisedWeights } from '../prepare/bases.js';
import { fitting, isVocabulary, misfit, restoreTensors, withoutRows } from './restore-tensors.js';
import { optimizerTensors } from './trainer-state.js';

/** The part that a parameter trains with. */
export function trainsWith(model: SegmentedModel, parameter: string): ModelPart | undefined {
  const own = ownPrefixes(model.input.image === null);
  const part = partOf(parameter, own);
  return part === 'head' ? 'decoder' : part;
}

/** The tensors of a checkpoint by Patina's own names. @throws DataError `E_CHECKPOINT_TENSORS` for one that has none */
export async function checkpointTensors(
  model: SegmentedModel,
  folder: string,
  change: (stored: StoredTensor) => StoredTensor = (stored) => stored,
): Promise<ReadonlyMap<string, StoredTensor>> {
  const own = ownPrefixes(model.input.image === null);
  const stored = (await openWeights(folder)).tensors.map(change);
  const { tensors, unexpected, ignored } = nameTensors(stored, { where: folder, own });
  const [stranger] = [...unexpected, ...ignored.keys()];
  if (stranger !== undefined) throw misfit(folder, `${stranger} is nothing that the run reads`);
  // The other side of a tied pair is the same tensor.
  return new Map([...tensors].filter(([name]) => !model.tied.has(name)));
}

export interface FrozenOptions {
  readonly train: Recipe['train'];
  readonly seed: number;
  readonly device: Device;
  readonly dtype: DType;
  /** Of a hollow model: what is held is read when its parts are filled. @default none */
  readonly sources?: ParameterSources | null;
}

/**
 * Gives the parts that do not train what the checkpoint holds of them.
 *
 * @returns the names of what was taken
 * @throws DataError `E_CHECKPOINT_TENSORS` for what the model has no place for; UsageError `E_QUANTISED_BASE`
 */
export async function takeFrozen(
  model: SegmentedModel,
  checkpoint: string,
  { train, seed, device, dtype, sources = null }: FrozenOptions,
): Promise<ReadonlySet<string>> {
  const held = [...(await checkpointTensors(model, checkpoint))].filter(([name]) => {
    const part = trainsWith(model, name);
    return part !== undefined && isFrozen(train[part]);
  });
  const there = model.namedParameters();
  const tensors = new Map(
    held.map(([name, stored]) => [name, withoutRows(stored, newRows(name, stored, there))]),
  );
  requireDense(model, tensors);
  detachFolded(model, tensors);
  const adapter = await attachHeld(model, { checkpoint, tensors, dtype });
  if (sources === null) {
    using generator = RandomGenerator.create(seed, device);
    model.initialize(device, { generator });
  }
  const targets = [...model.namedParameters()].filter(([name]) => tensors.has(name));
  const parts = wholeParts(new Map(targets), ALONE);
  const fill = { names: parts.map(({ name }) => name), parts };
  if (sources === null) {
    await restoreTensors(checkpoint, tensors, fill);
  } else {
    fitting(checkpoint, tensors, fill);
    if (adapter !== undefined) sources.know(adapter);
    for (const [name, stored] of tensors) sources.read(name, stored);
    model.placeBuffers(device);
  }
  return new Set(tensors.keys());
}

/** A weight that the checkpoint holds lies upon the base, and only the base is quantised. */
function requireDense(model: SegmentedModel, tensors: ReadonlyMap<string, StoredTensor>): void {
  const lost = [...quantisedWeights(model)].find(([name]) => tensors.has(name));
  if (lost === undefined) return;
  const [name, { form }] = lost;
  throw new UsageError(
    `${name} is to be held in ${formName(form)}, and the checkpoint holds what it has learnt`,
    {
      code: 'E_QUANTISED_BASE',
      hint: 'Go on without a `base` for its part; or write the checkpoint as a model (`patina export`), and begin a new run from that.',
    },
  );
}

/** Rows that a whole model was written with beside its own: those of tokens that the decoder has not. */
function newRows(
  name: string,
  { shape }: StoredTensor,
  there: ReadonlyMap<string, Tensor>,
): number {
  const own = there.get(name)?.shape[0];
  if (own === undefined || !isVocabulary(name)) return 0;
  return Math.max(0, (shape[0] ?? 0) - own);
}

/** A weight without its adapter is one into which the adapter was folded when its part began to train fully. */
function detachFolded(model: SegmentedModel, tensors: ReadonlyMap<string, StoredTensor>): void {
  for (const [path, linear] of linearsOf(model)) {
    const isFolded = tensors.has(`${path}.weight`) && !tensors.has(`${path}.lora_A.weight`);
    if (isFolded) linear.detachAdapter();
  }
}

async function attachHeld(
  model: SegmentedModel,
  {
    checkpoint,
    tensors,
    dtype,
  }: { checkpoint: string; tensors: ReadonlyMap<string, StoredTensor>; dtype: DType },
): Promise<AssembledAdapter | undefined> {
  const there = model.namedParameters();
  const missing = [...tensors].filter(([name]) => isAdapterTensor(name) && !there.has(name));
  if (missing.length === 0) return undefined;
  const file = join(checkpoint, 'adapter_config.json');
  const config = readAdapterConfig({ file, json: (await readJsonObject(file)) ?? {} });
  const adapter = { config, file, tensors: new Map(missing) };
  attachAdapters(model, [adapter], dtype);
  return adapter;
}

/** Which parts train otherwise than when a checkpoint was written. */
export interface PartChanges {
  readonly frozen: ReadonlySet<ModelPart>;
  readonly thawed: ReadonlySet<ModelPart>;
}

export async function partChanges(
  model: SegmentedModel,
  checkpoint: string,
  parameters: Iterable<string>,
): Promise<PartChanges> {
  const tensors = await optimizerTensors(checkpoint);
  const parts = (names: Iterable<string>): Set<ModelPart | undefined> =>
    new Set([...names].map((name) => trainsWith(model, name)));
  const before = parts(tensors.map(({ name }) => parameterOf(name)));
  const now = parts(parameters);
  return {
    frozen: new Set(MODEL_PARTS.filter((part) => before.has(part) && !now.has(part))),
    thawed: new Set(MODEL_PARTS.filter((part) => now.has(part) && !before.has(part))),
  };
}

/** The changes in sentences. */
export function describeParts({ frozen, thawed }: PartChanges): string[] {
  return [
    ...[...frozen].map(
      (part) =>
        `${part} trains no longer: it keeps what it has learnt, and its optimizer state is dropped`,
    ),
    ...[...thawed].map((part) => `${part} trains from here on, with fresh optimizer state`),
  ];
}
