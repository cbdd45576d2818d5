/**
 * What a folder or file is: which parts of a LLaVA it holds, in which layout, with which tensors. Told from names and
 * headers alone; no tensor is read.
 */
import { join } from 'node:path';

import { type JsonObject, readJsonObject } from '../small-file.js';
import { foldNf4 } from '../nf4.js';
import { dtypeBytes, elementCount, storedParts, type StoredTensor } from '../stored.js';
import { isJsonObject } from '../strict-json.js';
import {
  filesIn,
  openWeights,
  weightsFile,
  type Weights,
  type WeightsOptions,
} from '../weights.js';
import { isAdapterTensor } from './adapter-names.js';
import { nameTensors, type NamedTensors } from './name-tensors.js';
import { partOf } from './rename.js';
import { LLAVA_PREFIXES, PART_NAMES, type PartName } from './tables.js';

/** One set of weights: a folder's own, or one of XTuner's subfolders. */
export interface WeightSource extends NamedTensors {
  /** The folder or file. */
  readonly path: string;
  readonly files: readonly string[];
  /** Whether it holds adapters instead of weights, or beside them. */
  readonly isAdapter: boolean;
  /** `config.json`, or for adapters `adapter_config.json`; undefined where there is none. */
  readonly config: JsonObject | undefined;
  /** What a checkpoint holds beside its state dict. */
  readonly rest: Weights['rest'];
}

/** How much of a part is there. */
export interface PartFacts {
  readonly tensors: number;
  readonly parameters: number;
  readonly bytes: number;
  /** Element types, the most frequent first. */
  readonly dtypes: readonly string[];
  readonly isAdapter: boolean;
}

export interface Inspection {
  readonly path: string;
  /** Most sources have one; XTuner's converted folders have one per part. */
  readonly sources: readonly WeightSource[];
  readonly parts: ReadonlyMap<PartName, PartFacts>;
  /** Parts of a LLaVA that none of the sources holds; a head that is tied to the embeddings is not missing. */
  readonly missing: readonly PartName[];
}

/** What XTuner writes into folders of its own, and LLaVA's authors into a second file beside the adapter. */
const COMPANIONS = [
  'projector',
  'llm_adapter',
  'visual_encoder_adapter',
  'visual_encoder',
  'non_lora_trainables.bin',
];

/**
 * Looks at a folder or file.
 *
 * @throws DataError E_NO_WEIGHTS, E_LAYOUT, and what the readers of the files throw
 */
export async function inspect(path: string, options: WeightsOptions = {}): Promise<Inspection> {
  const sources: WeightSource[] = [];
  for (const each of await weightPlaces(path)) {
    sources.push(await openWeightSource(each, { verify: false, ...options }));
  }
  const parts = new Map<PartName, PartFacts>();
  for (const part of PART_NAMES) {
    const tensors = sources.flatMap((source) =>
      [...source.tensors].filter(([name]) => partOf(name, LLAVA_PREFIXES) === part),
    );
    if (tensors.length > 0) parts.set(part, factsOf(tensors));
  }
  const isTied = sources.some(({ config }) => tiesEmbeddings(config));
  const missing = PART_NAMES.filter((part) => !parts.has(part) && !(part === 'head' && isTied));
  return { path, sources, parts, missing };
}

/** Opens one set of weights and names its tensors. */
async function openWeightSource(path: string, options: WeightsOptions = {}): Promise<WeightSource> {
  const { tensors, files, rest } = await openWeights(path, options);
  const named = nameTensors(await foldNf4(tensors), { where: path });
  const isAdapter = [...named.tensors.keys()].some(isAdapterTensor);
  const configName = isAdapter ? 'adapter_config.json' : 'config.json';
  const config = await readJsonObject(join(path, configName));
  return { ...named, path, files, rest, isAdapter, config };
}

/** The places of a folder that hold weights: the folder itself, and what lies beside them. */
async function weightPlaces(path: string): Promise<string[]> {
  const names = await filesIn(path);
  const beside = COMPANIONS.filter((name) => names?.includes(name)).map((name) => join(path, name));
  const isOwn = beside.length === 0 || weightsFile(names ?? []) !== undefined;
  return isOwn ? [path, ...beside] : beside;
}

/** Whether the configuration, or that of the decoder in it, makes the embeddings the head. */
function tiesEmbeddings(config: WeightSource['config']): boolean {
  const text = config?.['text_config'];
  return [config, text].some((each) => isJsonObject(each) && each['tie_word_embeddings'] === true);
}

function factsOf(tensors: readonly (readonly [string, StoredTensor])[]): PartFacts {
  const counts = new Map<string, number>();
  let parameters = 0;
  let bytes = 0;
  for (const [, tensor] of tensors) {
    const count = elementCount(tensor.shape);
    parameters += count;
    for (const { dtype, shape } of storedParts(tensor)) {
      bytes += elementCount(shape) * dtypeBytes(dtype);
    }
    const dtype = tensor.form === undefined ? tensor.dtype : 'NF4';
    counts.set(dtype, (counts.get(dtype) ?? 0) + count);
  }
  const dtypes = [...counts].sort(([, a], [, b]) => b - a).map(([dtype]) => dtype);
  const isAdapter = tensors.every(([name]) => isAdapterTensor(name));
  return { tensors: tensors.length, parameters, bytes, dtypes, isAdapter };
}
