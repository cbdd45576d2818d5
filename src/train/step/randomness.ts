/**
 * Random numbers of a step: one stream for each segment, seeded from the run's seed, the update, the micro-batch, the data rank and the
 * segment. So recomputation, policies, resume and a later replay of one step draw the same numbers, and nothing is saved or
 * restored.
 */

import { RandomGenerator, type Device } from '../../torch/index.js';

/** Where a stream of random numbers belongs. */
export interface RandomPlace {
  readonly update: number;
  readonly microBatch: number;
  /** @default 0 */
  readonly dataRank?: number;
}

/** Streams from here on belong to the optimizer's stochastic rounding, those below to segments. */
export const OPTIMIZER_STREAM = 1 << 30;

const MASK = (1n << 64n) - 1n;

/** One round of SplitMix64 (Steele et al. 2014): equal inputs give equal seeds, near ones unrelated seeds. */
function mix(state: bigint, value: bigint): bigint {
  let z = (state + value * 0x9e3779b97f4a7c15n + 0x9e3779b97f4a7c15n) & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

/** The seed of a list of numbers. */
export function seedOf(...parts: readonly number[]): bigint {
  return parts.reduce((state, part) => mix(state, BigInt(part)), 0n);
}

/** Gives each segment of each micro-batch its stream, through one generator that is seeded anew. */
export class Randomness {
  private readonly generator: RandomGenerator;

  constructor(
    private readonly seed: number,
    device: Device,
  ) {
    this.generator = RandomGenerator.create(seed, device);
  }

  /** The stream of a segment, at its beginning. */
  of(segment: number, { update, microBatch, dataRank = 0 }: RandomPlace): RandomGenerator {
    return this.generator.seed(seedOf(this.seed, update, microBatch, dataRank, segment));
  }

  dispose(): void {
    this.generator.dispose();
  }
}
