/** What each rank has to say, told to all of them: values rather than tensors, over a group of CPUs. */

import { deserialize, serialize } from 'node:v8';
import { empty, fromTypedArray, scopeAsync } from '../torch/index.js';
import type { CallOptions, ProcessGroup } from './process-group.js';

/**
 * Gathers a value of each rank; all call it in the same order.
 *
 * @param own plain data
 * @returns the values by rank, the own one among them
 * @throws those of the group's calls
 */
export function exchange<T>(group: ProcessGroup, own: T, { label }: CallOptions): Promise<T[]> {
  return scopeAsync(async () => {
    const { size } = group;
    const bytes = serialize(own);
    const lengths = empty([size], { dtype: 'int64' });
    const length = fromTypedArray(BigInt64Array.of(BigInt(bytes.length)));
    await group.allGather(lengths, length, { label: `${label} (length)` }).wait();
    const each = Array.from(lengths.toTypedArray(), Number);
    const room = Math.max(...each);
    const padded = new Uint8Array(room);
    padded.set(bytes);
    const all = empty([size * room], { dtype: 'uint8' });
    await group.allGather(all, fromTypedArray(padded), { label }).wait();
    const told = all.toTypedArray() as Uint8Array;
    return each.map((count, rank) => {
      return deserialize(told.subarray(rank * room, rank * room + count)) as T;
    });
  });
}
