/**
 * Records of an update, run again as they were: by the weights, random numbers and memory policies that it had, forward and backward,
 * without an optimizer behind.
 */

import { drive } from '../../models/index.js';
import { full, noGrad } from '../../torch/index.js';
import { runMicroBatch, type Scene } from '../../train/index.js';
import type { LoadedSample } from '../../data/index.js';
import { WatchingStore, type SeenGradient } from './watching-store.js';

export interface RunAgain {
  /** Sum of the token losses; `null` without records. */
  readonly loss: number | null;
  readonly gradients: readonly SeenGradient[];
  /** The first gradient, from the loss down, that is not finite. */
  readonly firstBad: SeenGradient | null;
  readonly finite: boolean;
}

export interface RunAgainOptions {
  /** What the loss is multiplied by beside what it was. @default 1 */
  readonly factor?: number;
  /** Whether boundaries may go to host memory. @default true */
  readonly offload?: boolean;
}

/** Something that is done while parameters are gathered one after another, each waited for; all ranks do it. */
export async function withoutOverlap<T>(
  { store }: Scene['setup'],
  body: () => Promise<T>,
): Promise<T> {
  if (store.overlaps === undefined) return body();
  // What is under way was begun beside other work.
  await store.settle();
  store.overlaps = false;
  try {
    return await body();
  } finally {
    store.overlaps = true;
  }
}

/** Runs records as one micro-batch; all ranks call it, some without records. */
export async function runAgain(
  { setup, event, batch }: Pick<Scene, 'setup' | 'event' | 'batch'>,
  samples: readonly LoadedSample[],
  { factor = 1, offload = true }: RunAgainOptions = {},
): Promise<RunAgain> {
  using made = batch(samples);
  const store = new WatchingStore(setup.store);
  const scale = (event.lossScale ?? 1) * 2 ** (setup.power ?? 0) * factor;
  const lossFactor = full([], scale, { dtype: 'float32', device: setup.device }).keep();
  const policies = offload
    ? setup.policies
    : setup.policies.map((policy) => (policy === 'offload' ? 'recompute' : policy));
  try {
    // A run without its records would be evidence of nothing.
    const step = { ...setup, store, policies, lossFactor, shortage: undefined };
    const sum = await drive(runMicroBatch(step, made.value, event.update - 1));
    const loss = sum === null ? null : noGrad(() => sum.item());
    sum?.dispose();
    const gradients = store.read();
    const firstBad = gradients.find(({ largest }) => !Number.isFinite(largest)) ?? null;
    const finite = firstBad === null && (loss === null || Number.isFinite(loss));
    return { loss, gradients, firstBad, finite };
  } finally {
    lossFactor.dispose();
    store.dispose();
  }
}

/** Whether two runs came to the same numbers, to the bit. */
export function sameRun(a: RunAgain, b: RunAgain): boolean {
  const numbers = ({ loss, gradients }: RunAgain): (number | null)[] => [
    loss,
    ...gradients.flatMap(({ largest, sum }) => [largest, sum]),
  ];
  const others = numbers(b);
  return numbers(a).every((number, i) => Object.is(number, others[i]));
}
