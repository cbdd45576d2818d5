/** The event of an update, from what it was made of, what the device has counted, and how long it took. */

import type { UpdateData } from '../../data/index.js';
import type { ChosenDevice } from '../../torch/index.js';
import type { UpdateEvent } from '../events.js';
import type { UpdateNumbers, UpdateResult } from '../step/update.js';

export interface UpdateFacts {
  readonly result: Omit<UpdateResult, 'numbers'>;
  readonly numbers: Readonly<Record<UpdateNumbers, Float32Array>>;
  readonly data: UpdateData;
  /** Most bytes that each rank has given out; none where there is one rank. */
  readonly peaks: readonly number[];
  readonly seconds: number;
  /** Learning rate at the schedule's peak. */
  readonly peakRate: number;
  /** Tokens that a micro-batch holds, where there is such a limit. */
  readonly budget?: number | undefined;
  /** Whether losses are scaled. */
  readonly scaled: boolean;
  readonly device: Pick<ChosenDevice, 'totalBytes'>;
  /** Most bytes that the device has given out. */
  readonly peakBytes: number;
}

export function updateEvent(facts: UpdateFacts): UpdateEvent {
  const { result, numbers, data, seconds, peakRate, budget, scaled, device, peaks, peakBytes } =
    facts;
  const foundInf = [...numbers.foundInf];
  const skipped = result.gates.filter((_, i) => foundInf[i]! > 0);
  const isSkipped = foundInf.some((flag) => flag > 0);
  const ratio = numbers.stepSize[0] ?? Infinity;
  return {
    type: 'update',
    update: result.update + 1,
    epoch: data.epoch,
    loss: result.supervised === 0 ? null : numbers.lossSum[0]! / result.supervised,
    gradientNorm: numbers.norm[0]!,
    learningRate: peakRate * result.scheduleFactor,
    counts: data.counts,
    ...(budget !== undefined && {
      filled: data.counts.tokens / (budget * data.microBatches.length * data.shares.length),
    }),
    seconds,
    tokensPerSecond: data.counts.tokens / seconds,
    samplesPerSecond: data.counts.sequences / seconds,
    waiting: Math.min(1, data.waitedMs / 1000 / seconds),
    memory: { peakBytes, totalBytes: device.totalBytes },
    skipped: isSkipped,
    skippedSegments: skipped.length > 0 && skipped.length < result.gates.length ? skipped : null,
    lossScale: scaled ? numbers.lossScale[0]! : null,
    ...(result.step !== null &&
      !isSkipped &&
      Number.isFinite(ratio) && { step: { ...result.step, ratio } }),
    ...(data.shares.length > 1 && {
      ranks: data.shares.map(({ counts, waitedMs }, rank) => ({
        rank,
        tokensPerSecond: counts.tokens / seconds,
        waiting: Math.min(1, waitedMs / 1000 / seconds),
        peakBytes: peaks[rank]!,
      })),
    }),
  };
}
