/** Whether processes can work together here, for `patina doctor`. */

import { PatinaError } from '../base/errors.js';
import { torchFacts, zeros } from '../torch/index.js';
import { rendezvous } from './world.js';

/** Why a backend cannot be used; `null` where it can. */
export interface Backends {
  /** Between CPUs. */
  readonly gloo: string | null;
  /** Between GPUs. */
  readonly nccl: string | null;
}

/** Opens a group of one over Gloo, and reduces a tensor in it; asks libtorch for NCCL. */
export async function probeBackends(): Promise<Backends> {
  return { gloo: await glooFault(), nccl: torchFacts().ncclError ?? null };
}

async function glooFault(): Promise<string | null> {
  const alone = { rank: 0, worldSize: 1, localRank: 0, address: '127.0.0.1', port: 0 } as const;
  try {
    const place = { launcher: 'none', ...alone } as const;
    const world = await rendezvous({ place, backend: 'gloo', joinTimeout: 5_000, timeout: 5_000 });
    using tensor = zeros([1]);
    await world.group.allReduce(tensor, { label: 'probe' }).wait();
    await world.close();
    return null;
  } catch (error) {
    if (error instanceof PatinaError) return error.message;
    throw error;
  }
}
