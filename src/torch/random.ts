/** Random state: generators with seeds of their own, which operators that draw take as `generator`, and keys of those without state. */

import { UsageError } from '../base/errors.js';
import { B } from './door.js';
import { expectDone, expectValue } from './errors.js';
import { native, type Device } from './native.js';
import { Tensor } from './tensor.js';

function seedBits(seed: number | bigint): bigint {
  if (typeof seed === 'number' && !Number.isSafeInteger(seed)) {
    throw new UsageError(`the seed ${seed} is not an integer`, {
      code: 'E_ARGUMENT',
      hint: 'Give a whole number or a bigint.',
    });
  }
  return BigInt.asUintN(64, BigInt(seed));
}

/** Key of a counter-based generator, whose numbers are a function of key and place: two words of 32 bits. */
export type CounterKey = readonly [low: number, high: number];

/** A stream of random numbers on one device. Dispose it, or let it go with the program. */
export class RandomGenerator {
  handle: number;

  private constructor(handle: number) {
    this.handle = handle;
  }

  /** A generator with its own state. Seeds are taken modulo 2^64. */
  static create(seed: number | bigint, device: Device = 'cpu'): RandomGenerator {
    return new RandomGenerator(
      expectValue(native.newGenerator(device, seedBits(seed)), 'generator'),
    );
  }

  /** The generator that operators use when they are given none. */
  static default(device: Device = 'cpu'): RandomGenerator {
    return new RandomGenerator(expectValue(native.defaultGenerator(device), 'generator'));
  }

  /** Starts the stream of this seed. */
  seed(seed: number | bigint): this {
    expectDone(native.seedGenerator(this.handle, seedBits(seed)), 'seed');
    return this;
  }

  /** The whole state, a uint8 tensor on the CPU. */
  state(): Tensor {
    expectDone(native.generatorState(this.handle), 'state');
    return new Tensor(B[0]!);
  }

  /** Restores a state that `state` gave. */
  setState(state: Tensor): this {
    expectDone(native.setGeneratorState(this.handle, state.handle), 'setState');
    return this;
  }

  /** Disposing it twice is an error, as for tensors. */
  dispose(): void {
    expectDone(native.dropGenerator(this.handle), 'dispose');
    this.handle = -1;
  }

  [Symbol.dispose](): void {
    if (this.handle > 0) this.dispose();
  }
}
