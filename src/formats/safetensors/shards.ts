/**
 * Weights in a folder as transformers keeps them: one `model.safetensors`, or shards `model-00001-of-00004.safetensors`
 * with `model.safetensors.index.json`. Which tensor goes into which shard depends on names and sizes alone.
 */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { jsonText } from '../../base/json-text.js';
import { naturalOrder } from '../natural-order.js';
import { elementCount } from '../stored.js';
import {
  checkNames,
  tensorBytes,
  writeSafetensors,
  type TensorSource,
  type WriteOptions,
} from './write.js';

export interface ShardOptions extends WriteOptions {
  /** First part of the files' names. @default 'model' */
  stem?: string;
  /** Bytes of tensors per shard; a larger tensor gets a shard of its own. @default 5e9 */
  shardBytes?: number;
}

/** Writes the tensors into the folder, and the index if there are several shards; returns the names of the files. */
export async function writeShards(
  folder: string,
  tensors: readonly TensorSource[],
  { stem = 'model', shardBytes = 5e9, ...options }: ShardOptions = {},
): Promise<string[]> {
  checkNames(folder, tensors);
  const shards = splitIntoShards(tensors, shardBytes);
  if (shards.length === 1) {
    const file = `${stem}.safetensors`;
    await writeSafetensors(join(folder, file), tensors, options);
    return [file];
  }
  const five = (number: number): string => String(number).padStart(5, '0');
  const files: string[] = [];
  const home: [string, string][] = [];
  for (const [index, shard] of shards.entries()) {
    const file = `${stem}-${five(index + 1)}-of-${five(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, file), shard, options);
    for (const { name } of shard) home.push([name, file]);
    files.push(file);
  }
  home.sort(([a], [b]) => (a < b ? -1 : 1));
  const content = {
    metadata: {
      total_parameters: tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
      total_size: tensors.reduce((sum, tensor) => sum + tensorBytes(tensor), 0),
    },
    weight_map: Object.fromEntries(home),
  };
  const index = `${stem}.safetensors.index.json`;
  await writeFile(join(folder, index), jsonText(content), { flag: 'wx' });
  return [...files, index];
}

/** Fills shard after shard in the natural order of names, so that layer 2 comes before layer 10. */
export function splitIntoShards<T extends Pick<TensorSource, 'name' | 'dtype' | 'shape'>>(
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
