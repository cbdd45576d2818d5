/**
 * Words and pictures of records that nobody has: always the same, and each another. A card multiplies rows that are all alike in less time than others,
 * since it takes less power.
 */

/** 32 bits of a number, by Knuth's multiplicative hash. */
export function scattered(i: number): number {
  return Math.imul(i + 1, 2654435761) >>> 0;
}

let drawn = new Uint8Array(0);

/** So many bytes. Whoever has them shares them. */
export function noise(length: number): Uint8Array {
  if (drawn.length < length) {
    drawn = new Uint8Array(length);
    for (let i = 0; i < length; i++) drawn[i] = scattered(i) >>> 24;
  }
  return drawn.subarray(0, length);
}
