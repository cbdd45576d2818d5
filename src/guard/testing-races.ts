/** For tests: calls of a group whose results are read before they are there, as where a wait is missing; or waited for, and late. */

import { setTimeout as sleep } from 'node:timers/promises';

import { ProcessGroup, type Work } from '../parallel/index.js';
import { empty, noGrad, type Tensor } from '../torch/index.js';

export interface Race {
  readonly kind: 'allGather' | 'reduceScatter';
  /** Of the calls that it is about: part of their label. */
  readonly label: string;
  /** Whether who reads does not wait; else it does, and the call comes late. */
  readonly skipsWait: boolean;
}

/** Milliseconds. */
const LATE = 20;

/** From now on in this process: results of these calls lie elsewhere until they are waited for by the host, and NaN where they should be. */
export function race({ kind, label, skipsWait }: Race): void {
  const call = ProcessGroup.prototype[kind];
  ProcessGroup.prototype[kind] = function (this: ProcessGroup, result, source, options) {
    if (!options.label.includes(label)) return call.call(this, result, source, options);
    const { shape, dtype, device } = result;
    const elsewhere = noGrad(() => empty(shape, { dtype, device })).keep();
    // Memory that nobody wrote may hold anything.
    noGrad(() => result.fill_(NaN));
    const given = noGrad(() => source.clone()).keep();
    const work = call.call(this, elsewhere, given, options);
    return delayed(work, { result, elsewhere, given, skipsWait });
  };
}

interface Delayed {
  readonly result: Tensor;
  readonly elsewhere: Tensor;
  readonly given: Tensor;
  readonly skipsWait: boolean;
}

function delayed(work: Work, { result, elsewhere, given, skipsWait }: Delayed): Work {
  const wait = async (): Promise<void> => {
    await work.wait();
    noGrad(() => result.copy_(elsewhere));
    elsewhere.dispose();
    given.dispose();
  };
  const waitOnStream = async (): Promise<void> => {
    if (skipsWait) return;
    await sleep(LATE);
    await wait();
  };
  return { wait, waitOnStream } as unknown as Work;
}

/** From now on in this process: before its gathers of this label it calls what no other rank does. */
export function goAstray(label: string): void {
  const call = ProcessGroup.prototype.allGather;
  ProcessGroup.prototype.allGather = function (this: ProcessGroup, whole, shard, options) {
    const gather = (): Work => call.call(this, whole, shard, options);
    if (!options.label.includes(label)) return gather();
    const alone = this.barrier(options);
    const wait = (): Promise<void> => alone.wait().then(() => gather().wait());
    return { wait, waitOnStream: wait } as unknown as Work;
  };
}
