/**
 * Keys for the random numbers of a step, which are counted and not drawn in turn (Salmon et al. 2011): a number is a function of its key and
 * of where it belongs. So recomputation, policies, resume and a later replay of one step get the same numbers, whichever rank or
 * micro-batch a record is in and however parameters are sharded, and nothing is saved or restored.
 */

import { createHash } from 'node:crypto';
import type { CounterKey } from '../../torch/index.js';

const MASK = (1n << 64n) - 1n;

/** One round of SplitMix64 (Steele et al. 2014): equal inputs give equal keys, near ones unrelated keys. */
function mix(state: bigint, value: bigint): bigint {
  let z = (state + value * 0x9e3779b97f4a7c15n + 0x9e3779b97f4a7c15n) & MASK;
  z = ((z ^ (z >> 30n)) * 0xbf58476d1ce4e5b9n) & MASK;
  z = ((z ^ (z >> 27n)) * 0x94d049bb133111ebn) & MASK;
  return z ^ (z >> 31n);
}

/** 64 bits of a name, and its key in the latest update that asked: micro-batches of one ask again and again. */
interface Named {
  readonly bits: bigint;
  readonly update: number;
  readonly key: CounterKey;
}

export class Randomness {
  /** Those that were asked for: there are as many as the model has segments and parameters. */
  private readonly names = new Map<string, Named>();

  constructor(private readonly seed: number) {}

  /** Of the dropout masks of a segment in one update. */
  ofMasks(update: number, segment: string): CounterKey {
    return this.key(update, `masks of ${segment}`);
  }

  /** Of the stochastic rounding of a parameter, or of one of its moments, in one update. */
  ofRounding(update: number, tensor: string): CounterKey {
    return this.key(update, `rounding of ${tensor}`);
  }

  private key(update: number, name: string): CounterKey {
    const known = this.names.get(name);
    if (known?.update === update) return known.key;
    const bits = known?.bits ?? createHash('sha256').update(name).digest().readBigUInt64LE();
    const mixed = [BigInt(this.seed), BigInt(update), bits].reduce(mix, 0n);
    const key = [Number(mixed & 0xffffffffn), Number(mixed >> 32n)] as const;
    this.names.set(name, { bits, update, key });
    return key;
  }
}
