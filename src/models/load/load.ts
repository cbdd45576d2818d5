/**
 * Loading a model: built on meta, compared with what the files hold, then each tensor placed once on its device.
 *
 * Strict: whatever is missing, unexpected, of a wrong shape or type, or not finite is listed by name and refused unless it is
 * allowed by name.
 */
import { checkTensors, type CheckedTensors } from '../../formats/layouts/check-tensors.js';
import { ownPrefixes } from '../../formats/layouts/tables.js';
import { moduleOf } from '../../formats/layouts/rename.js';
import { storedParts, type StoredTensor } from '../../formats/stored.js';
import { type BuildOptions, type Kernels, kernelsFor, linearsOf } from '../../nn/index.js';
import {
  chooseDevice,
  type Device,
  type DType,
  RandomGenerator,
  type Tensor,
} from '../../torch/index.js';
import { type LanguageModel, TextModel } from '../language-model.js';
import { Llava } from '../llava.js';
import {
  assemble,
  assembleAny,
  assembleText,
  type AssembleOptions,
  type Assembly,
  type TextAssembly,
} from './assemble.js';
import { attachAdapters } from './attach-adapters.js';
import { FiniteCheck } from './finite-check.js';
import { requireFp8 } from './fp8-device.js';
import {
  denseReading,
  formOf,
  placeReadings,
  quantisedReading,
  type Reading,
} from './quantised-tensor.js';
import { inFileOrder } from './place.js';
import { shareWeights } from './share-weights.js';
import { ParameterSources } from './sources.js';
import { checkTied } from './tied-check.js';

export interface LoadOptions extends AssembleOptions {
  /** @default 'cpu' */
  device?: Device;
  /** Type of the weights. @default the one that the embeddings are stored in */
  dtype?: DType;
  /** Type of adapters. @default 'float32' */
  adapterDtype?: DType;
  /** @default the best of the device */
  kernels?: Kernels;
  /**
   * Tensors that may be missing (they are drawn anew), unexpected, unfit (drawn anew) or not finite: patterns of
   * names, `*` for anything.
   */
  allow?: readonly string[];
  /** Seed of what is drawn anew. @default 0 */
  seed?: number;
  /** Read nothing: the parameters stay on meta, and `sources` tells where their values come from. @default false */
  hollow?: boolean;
  /** A model on the same device whose weights are shared where both have them from the same place of the same file. */
  beside?: Pick<Loaded<LanguageModel, unknown>, 'model' | 'stored'> | undefined;
  /** Called with the bytes read so far and in all. */
  onProgress?: (done: number, total: number) => void;
}

/** A model on its device, and how it came about. */
export interface Loaded<M, A> {
  readonly model: M;
  readonly assembly: A;
  readonly dtype: DType;
  /** Of a hollow model, else `null`. */
  readonly sources: ParameterSources | null;
  /** What each parameter was read from. */
  readonly stored: ReadonlyMap<string, StoredTensor>;
  /** Parameters that were in no file, which was allowed, and were drawn anew. */
  readonly fresh: readonly string[];
  /** Tensors that were in a file and are not in the model: allowed, or tied to another. */
  readonly unused: readonly string[];
}

/**
 * A LLaVA, or a decoder where there is nothing else, from a folder, a file or a name on the hub, in any layout; parts and adapters
 * by option.
 *
 * @throws ConfigError; TensorsError `E_TENSORS`; DataError `E_TIED`, `E_NON_FINITE_WEIGHTS`, `E_ADAPTER`, and those of the readers
 */
export async function loadModel(
  source: string,
  options: LoadOptions = {},
): Promise<Loaded<Llava, Assembly> | Loaded<TextModel, TextAssembly>> {
  return loadAssembled(await assembleAny(source, options), source, options);
}

/** What was assembled before, likewise. */
export async function loadAssembled(
  assembly: Assembly | TextAssembly,
  source: string,
  options: LoadOptions = {},
): Promise<Loaded<Llava, Assembly> | Loaded<TextModel, TextAssembly>> {
  return assembly.kind === 'text'
    ? loadText(assembly, source, options)
    : loadWhole(assembly, source, options);
}

/** A LLaVA, likewise. */
export async function loadLlava(
  source: string,
  options: LoadOptions = {},
): Promise<Loaded<Llava, Assembly>> {
  return loadWhole(await assemble(source, options), source, options);
}

/** A decoder alone, likewise. */
export async function loadTextModel(
  source: string,
  options: LoadOptions = {},
): Promise<Loaded<TextModel, TextAssembly>> {
  return loadText(await assembleText(source, options), source, options);
}

function loadWhole(assembly: Assembly, source: string, options: LoadOptions) {
  const build = buildOptions(assembly, options);
  return fill(new Llava(assembly.config, build), assembly, source, { ...options, ...build });
}

function loadText(assembly: TextAssembly, source: string, options: LoadOptions) {
  const build = buildOptions(assembly, options);
  return fill(new TextModel(assembly.config, build), assembly, source, { ...options, ...build });
}

function buildOptions(
  { kind, tensors }: Assembly | TextAssembly,
  { device = 'cpu', ...options }: LoadOptions,
): Required<BuildOptions> {
  const own = ownPrefixes(kind === 'text');
  const { dtype = storedType(tensors, own.decoder) } = options;
  const { kernels = kernelsFor({ device, dtype }) } = options;
  return { dtype, kernels };
}

async function fill<M extends LanguageModel, A extends Assembly | TextAssembly>(
  model: M,
  assembly: A,
  source: string,
  options: LoadOptions & { dtype: DType },
): Promise<Loaded<M, A>> {
  const { device = 'cpu', dtype, adapterDtype = 'float32', allow = [], seed = 0, signal } = options;
  try {
    attachAdapters(model, assembly.adapters, adapterDtype);
    const checked = checkTensors({
      where: source,
      tensors: assembly.tensors,
      unexpected: assembly.sources.flatMap(({ unexpected }) => unexpected),
      expected: shapesOf(model),
      tied: model.tied,
      allow,
    });
    const { tied } = model;
    const { tensors, sources } = assembly;
    await checkTied({ where: source, tensors, sources, tied, allow, signal });
    const { tensors: stored, missing: fresh, unused } = checked;
    quantise(model, stored, device);
    const loaded = { model, assembly, dtype, stored, fresh, unused };
    const std = model.decoder.config.initializerRange;
    if (options.hollow === true) {
      const hollow = new ParameterSources(source, allow);
      for (const adapter of assembly.adapters) hollow.know(adapter);
      for (const [name, tensor] of stored) hollow.read(name, tensor);
      hollow.drawRest(model, { seed, std });
      model.placeBuffers(device);
      return { ...loaded, sources: hollow };
    }
    await place(model, checked, source, options);
    using generator = RandomGenerator.create(seed, device);
    model.initialize(device, { generator, std });
    return { ...loaded, sources: null };
  } catch (error) {
    model.dispose();
    throw error;
  }
}

/** Makes the layers whose weights are to be in few bits hold them so. */
export function quantise(
  model: LanguageModel,
  stored: ReadonlyMap<string, StoredTensor>,
  device: Device,
): void {
  const inFp8 = [...stored.values()].some(({ form }) => form?.name === 'fp8');
  if (inFp8 && device !== 'meta') requireFp8(chooseDevice(device));
  for (const [name, linear] of linearsOf(model)) {
    const weight = stored.get(`${name}.weight`);
    const form = weight && formOf(weight);
    if (form === undefined) continue;
    linear.quantise(form);
  }
}

async function place(
  model: LanguageModel,
  { tensors }: CheckedTensors,
  source: string,
  { device = 'cpu', allow = [], signal, beside, onProgress }: LoadOptions,
): Promise<void> {
  const shared = beside === undefined ? new Set() : shareWeights(model, tensors, beside);
  const parameters = model.namedParameters();
  const layers = new Map(linearsOf(model));
  const sorted = [...tensors]
    .filter(([name]) => !shared.has(name))
    .sort(([, a], [, b]) => inFileOrder(a, b));
  const total = sorted.reduce((sum, [, stored]) => sum + storedBytes(stored), 0);
  const finite = new FiniteCheck();
  let done = 0;
  const count = (stored: StoredTensor): void => onProgress?.((done += storedBytes(stored)), total);
  const readingOf = ([name, stored]: readonly [string, StoredTensor]): Reading => {
    const layer = stored.form && layers.get(moduleOf(name));
    if (layer !== undefined) {
      return quantisedReading(stored, device, {
        finite: { name, check: finite },
        made: (parts) => {
          layer.loadParts(parts);
          count(stored);
        },
      });
    }
    const { dtype } = parameters.get(name)!;
    const made = (tensor: Tensor): void => {
      model.load(name, tensor);
      finite.add(name, tensor);
      count(stored);
    };
    return stored.form === undefined
      ? { reads: [{ stored, dtype }], made: ([tensor]) => made(tensor!) }
      : denseReading(stored, device, dtype, made);
  };
  try {
    await placeReadings(sorted.map(readingOf), device, { signal });
    finite.check(source, allow);
  } finally {
    finite.dispose();
  }
}

function storedBytes(stored: StoredTensor): number {
  return storedParts(stored).reduce((sum, { bytes }) => sum + bytes, 0);
}

function shapesOf(model: LanguageModel): ReadonlyMap<string, readonly number[]> {
  return new Map([...model.namedParameters()].map(([name, { shape }]) => [name, shape]));
}

function storedType(tensors: ReadonlyMap<string, StoredTensor>, decoder: string): DType {
  const stored = tensors.get(`${decoder}embed_tokens.weight`)?.dtype;
  return stored === 'BF16' ? 'bfloat16' : stored === 'F16' ? 'float16' : 'float32';
}
