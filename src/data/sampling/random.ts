/** Random numbers that are the same everywhere: sfc32 (Chris Doty-Humphrey, PractRand), seeded through SHA-256. */
import { createHash } from 'node:crypto';

export class Random {
  #a: number;
  #b: number;
  #c: number;
  #counter = 1;

  /** Equal parts give equal streams, different parts unrelated ones. */
  constructor(...parts: readonly (string | number)[]) {
    const digest = createHash('sha256').update(JSON.stringify(parts)).digest();
    this.#a = digest.readUInt32LE(0);
    this.#b = digest.readUInt32LE(4);
    this.#c = digest.readUInt32LE(8);
  }

  /** A whole number from 0, below `n` (at most 2^32); every one equally likely. */
  below(n: number): number {
    const fair = 2 ** 32 - (2 ** 32 % n);
    for (;;) {
      const bits = this.#next();
      if (bits < fair) return bits % n;
    }
  }

  /** Puts values in a random order, in place (Fisher and Yates). */
  shuffle<T extends Uint32Array | unknown[]>(values: T): T {
    for (let i = values.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [values[i], values[j]] = [values[j], values[i]];
    }
    return values;
  }

  /** `count` of the values, each subset equally likely, in their old order. */
  subset(values: Uint32Array, count: number): Uint32Array {
    const places = Uint32Array.from(values, (_, place) => place);
    const chosen = this.shuffle(places).subarray(0, count).sort();
    return chosen.map((place) => values[place]!);
  }

  #next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum >>> 0;
  }
}
