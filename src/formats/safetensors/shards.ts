/**
 * Weights in a folder as transformers keeps them: one `model.safetensors`, or shards `model-00001-of-00004.safetensors`
 * with `model.safetensors.index.json`. Which tensor goes into which shard depends on names and sizes alone.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { jsonText } from '../../base/json-text.js';
import { naturalOrder } from '../natural-order.js';
import { elementCount } from '../stored.js';
import { checkNames, type Shaped, tensorBytes } from './layout.js';
import { writeSafetensors, type TensorSource, type WriteOptions } from './write.js';

export interface ShardPlanOptions {
  /** First part of the files' names. @default 'model' */
  stem?: string | undefined;
  /** Bytes of tensors per shard; a larger tensor gets a shard of its own. @default 5e9 */
  shardBytes?: number | undefined;
}

export interface ShardOptions extends ShardPlanOptions, WriteOptions {}

export interface ShardPlan<T> {
  /** The files in the order of their names, and what lies in each. */
  readonly shards: readonly { readonly file: string; readonly tensors: readonly T[] }[];
  /** Where there are several. */
  readonly index?: { readonly file: string; readonly content: string };
}

/** Writes the tensors into the folder, and the index if there are several shards; returns the names of the files. */
export async function writeShards(
  folder: string,
  tensors: readonly TensorSource[],
  { stem, shardBytes, ...options }: ShardOptions = {},
): Promise<string[]> {
  const { shards, index } = planShards(folder, tensors, { stem, shardBytes });
  for (const shard of shards) {
    await writeSafetensors(join(folder, shard.file), shard.tensors, options);
  }
  const files = shards.map(({ file }) => file);
  if (index === undefined) return files;
  await writeFile(join(folder, index.file), index.content, { flag: 'wx' });
  return [...files, index.file];
}

/** Which tensor goes into which file, and the index of the files. @throws DataError `E_TENSOR_NAMES` */
export function planShards<T extends Shaped>(
  folder: string,
  tensors: readonly T[],
  { stem = 'model', shardBytes = 5e9 }: ShardPlanOptions = {},
): ShardPlan<T> {
  checkNames(folder, tensors);
  const parts = splitIntoShards(tensors, shardBytes);
  if (parts.length === 1) return { shards: [{ file: `${stem}.safetensors`, tensors }] };
  const five = (number: number): string => String(number).padStart(5, '0');
  const shards = parts.map((each, i) => ({
    file: `${stem}-${five(i + 1)}-of-${five(parts.length)}.safetensors`,
    tensors: each,
  }));
  const home = shards.flatMap(({ file, tensors: each }) => each.map(({ name }) => [name, file]));
  home.sort(([a], [b]) => (a! < b! ? -1 : 1));
  const content = {
    metadata: {
      total_parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
      total_size: tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0),
    },
    weight_map: Object.fromEntries(home) as Record<string, string>,
  };
  const index = { file: `${stem}.safetensors.index.json`, content: jsonText(content) };
  return { shards, index };
}

/** Fills shard after shard in the natural order of names, so that layer 2 comes before layer 10. */
export function splitIntoShards<T extends Shaped>(
  tensors: readonly T[],
  shardBytes: number,
): T[][] {
  const shards: T[][] = [[]];
  let used = 0;
  for (const tensor of tensors.toSorted((a, b) => naturalOrder(a.name, b.name))) {
    const bytes = tensorBytes(tensor);
    if (used > 0 && used + bytes > shardBytes) {
      shards.push([]);
      used = 0;
    }
    shards.at(-1)!.push(tensor);
    used += bytes;
  }
  return shards;
}
