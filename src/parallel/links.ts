/** How fast the ranks of a world move tensors between them, for `patina doctor`. */

import { empty, noGrad, synchronize } from '../torch/index.js';
import type { Work } from './process-group.js';
import type { World } from './world.js';

/**
 * Bytes per second that each rank sends, and as many receives, in a collective of N ranks over P bytes: `(N - 1) / N · P / seconds`, twice that
 * for all-reduce. A link's own speed is the limit of it, whatever N is.
 */
export interface LinkSpeeds {
  readonly backend: 'gloo' | 'nccl';
  readonly ranks: number;
  readonly allGather: number;
  readonly reduceScatter: number;
  readonly allReduce: number;
}

/** Elements (fp32) on a GPU and on a CPU: enough that the way counts and not the start. */
const ELEMENTS = { nccl: 2 ** 26, gloo: 2 ** 20 } as const;
const WARM_UP = 2;
const CALLS = 10;

/** Times the collectives that training uses; all ranks call it. */
export async function measureLinks({ group, size, device }: World): Promise<LinkSpeeds> {
  const backend = group.backend === 'nccl' ? 'nccl' : 'gloo';
  const share = Math.floor(ELEMENTS[backend] / size);
  using whole = noGrad(() => empty([share * size], { device })).zero_();
  using shard = noGrad(() => empty([share], { device })).zero_();
  const label = 'speed of the links';
  const speed = async (parts: number, call: () => Work): Promise<number> => {
    const run = async (calls: number): Promise<void> => {
      const works = Array.from({ length: calls }, call);
      await works.at(-1)!.waitOnStream();
      synchronize(device);
    };
    await run(WARM_UP);
    await group.barrier({ label }).wait();
    const start = performance.now();
    await run(CALLS);
    const seconds = (performance.now() - start) / 1000;
    return (CALLS * parts * (size - 1) * shard.bytes) / seconds;
  };
  return {
    ...{ backend, ranks: size },
    allGather: await speed(1, () => group.allGather(whole, shard, { label })),
    reduceScatter: await speed(1, () => group.reduceScatter(shard, whole, { label })),
    allReduce: await speed(2, () => group.allReduce(whole, { label })),
  };
}
