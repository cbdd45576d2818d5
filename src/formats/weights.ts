/**
 * The weights in a file or folder, whatever their format: safetensors or torch's checkpoints, whole or in shards. Headers
 * are read, tensors are not.
 */
import { readdir, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { DataError } from '../base/errors.js';
import { fileKind, HEAD_BYTES, ONLY_WRITTEN } from './file-kind.js';
import { listNames } from './layouts/list-names.js';
import { readCheckpoint, storedTensor } from './pickle/read.js';
import { PickleTensor, type PickleDict, type PickleValue } from './pickle/values.js';
import { readSafetensors } from './safetensors/header.js';
import { openSource, readError } from './source.js';
import type { StoredTensor } from './stored.js';
import { readWeightIndex } from './weight-index.js';

export interface WeightsOptions {
  /** Compare the checksums of torch's checkpoints, which reads them as a whole. @default true */
  verify?: boolean;
  signal?: AbortSignal | undefined;
}

export interface Weights {
  /** The files that hold them, in the order of their names. */
  readonly files: readonly string[];
  readonly tensors: readonly StoredTensor[];
  /** What a checkpoint holds beside its state dict (`meta`, ...). */
  readonly rest: PickleDict;
}

/** What a folder's weights are called, the preferred first. */
const FILES = [
  'model.safetensors',
  'model.safetensors.index.json',
  'pytorch_model.bin',
  'pytorch_model.bin.index.json',
  'adapter_model.safetensors',
  'adapter_model.bin',
  'mm_projector.bin',
  // DeepSpeed's checkpoint, which XTuner names iter_N.pth.
  'mp_rank_00_model_states.pt',
];

/** Where checkpoints keep the state dict, if not at the top: mmengine (XTuner), DeepSpeed, others. */
const STATE_DICTS = ['state_dict', 'module', 'model_state_dict', 'model'];

/** The weights at `path`, a file or a folder. */
export async function openWeights(path: string, options: WeightsOptions = {}): Promise<Weights> {
  const names = await filesIn(path);
  if (names === undefined) return openFile(path, options);
  const file = weightsFile(names) ?? onlyCheckpoint(path, names);
  if (file !== undefined) return openFile(join(path, file), options);
  throw new DataError(`${path} holds no weights: there is no ${FILES[0]!} or the like in it.`, {
    code: 'E_NO_WEIGHTS',
    hint: names.some((name) => name.endsWith('.gguf'))
      ? ONLY_WRITTEN
      : 'Name the folder or the file that holds the weights.',
  });
}

/** The file among these names that holds a folder's weights, or their index. */
export function weightsFile(names: readonly string[]): string | undefined {
  return FILES.find((name) => names.includes(name));
}

/** The checkpoint of a work folder that has one. */
function onlyCheckpoint(path: string, names: readonly string[]): string | undefined {
  const checkpoints = names.filter((name) => /\.(pth|pt|bin|safetensors)$/.test(name));
  if (checkpoints.length <= 1) return checkpoints[0];
  throw new DataError(`${path} holds several weights: ${listNames(checkpoints)}.`, {
    code: 'E_NO_WEIGHTS',
    hint: 'Name one of the files.',
  });
}

/** The names in a folder; undefined for a file. */
export async function filesIn(path: string): Promise<string[] | undefined> {
  try {
    if (!(await stat(path)).isDirectory()) return undefined;
    return (await readdir(path)).sort();
  } catch (error) {
    throw readError(error, path);
  }
}

async function openFile(path: string, options: WeightsOptions): Promise<Weights> {
  if (path.endsWith('.index.json')) return openShards(path, options);
  const source = await openSource(path);
  const head = await source
    .read(0, Math.min(source.size, HEAD_BYTES))
    .finally(() => source.close());
  const kind = fileKind(head, source.size);
  // What is neither is refused as what its name says.
  if (kind === 'safetensors' || (kind !== 'zip' && path.endsWith('.safetensors'))) {
    const { tensors } = await readSafetensors(path);
    return { files: [path], tensors, rest: new Map() };
  }
  const content = await readCheckpoint(path, options);
  const { state, rest } = findStateDict(path, content);
  return { files: [path], tensors: state, rest };
}

async function openShards(indexPath: string, options: WeightsOptions): Promise<Weights> {
  const index = await readWeightIndex(indexPath);
  const files = [...new Set(index.values())].sort();
  const tensors: StoredTensor[] = [];
  for (const file of files) {
    const shard = await openShard(indexPath, file, options);
    const there = new Set(shard.map(({ name }) => name));
    const lost = [...index].filter(([name, home]) => home === file && !there.has(name));
    const stray = shard.filter(({ name }) => index.get(name) !== file);
    if (lost.length > 0 || stray.length > 0) {
      const names = [...lost.map(([name]) => name), ...stray.map(({ name }) => name)];
      throw new DataError(`${indexPath} and ${file} disagree about ${listNames(names)}.`, {
        code: 'E_WEIGHT_INDEX',
        hint: 'Download or copy the folder again: its files are of different versions.',
      });
    }
    for (const tensor of shard) tensors.push(tensor);
  }
  return { files: files.map((file) => join(dirname(indexPath), file)), tensors, rest: new Map() };
}

async function openShard(
  indexPath: string,
  file: string,
  options: WeightsOptions,
): Promise<readonly StoredTensor[]> {
  try {
    return (await openFile(join(dirname(indexPath), file), options)).tensors;
  } catch (error) {
    if (!(error instanceof DataError) || error.code !== 'E_FILE_MISSING') throw error;
    throw new DataError(`${indexPath} names ${file}, which is not there.`, {
      code: 'E_WEIGHT_INDEX',
      hint: 'Download or copy the missing file too.',
      cause: error,
    });
  }
}

/** The tensors of a checkpoint: at its top, or in the dictionary that trainers put them in. */
function findStateDict(
  path: string,
  content: PickleValue,
): { state: StoredTensor[]; rest: PickleDict } {
  const inside = (key: string): PickleValue | undefined =>
    content instanceof Map ? content.get(key) : undefined;
  const key = holdsTensors(content)
    ? undefined
    : STATE_DICTS.find((name) => holdsTensors(inside(name)));
  const dict = key === undefined ? content : inside(key);
  if (!holdsTensors(dict)) {
    throw new DataError(`${path} holds no state dict: no dictionary of tensors by name.`, {
      code: 'E_NO_WEIGHTS',
      hint: "Name a file of weights; an optimizer's or a trainer's state is none.",
    });
  }
  const state: StoredTensor[] = [];
  const rest: PickleDict = new Map(content instanceof Map && key !== undefined ? content : []);
  if (key !== undefined) rest.delete(key);
  for (const [name, value] of dict) {
    if (value instanceof PickleTensor && typeof name === 'string') {
      state.push(storedTensor(value, name, path));
    } else rest.set(name, value);
  }
  return { state, rest };
}

function holdsTensors(value: PickleValue | undefined): value is PickleDict {
  return value instanceof Map && [...value.values()].some((item) => item instanceof PickleTensor);
}
