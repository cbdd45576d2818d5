/**
 * Records that say and show the same as an earlier one, by 64 bits of a digest of each: an open hash table of their numbers, 16 to
 * 24 bytes a record. Of ten million records two differ and share these bits with a chance of 1 in 370,000.
 */

export class Duplicates {
  /** Two numbers a record. */
  readonly #contents: Uint32Array;
  /** One more than the record that lies there; 0 for none. */
  readonly #slots: Uint32Array;

  /** @param records numbers of records are below it */
  constructor(records: number) {
    this.#contents = new Uint32Array(2 * records);
    this.#slots = new Uint32Array(2 ** Math.ceil(Math.log2(Math.max(2, 1.5 * records))));
  }

  /** Remembers a record. @returns the earlier one with the same content, if there is one */
  add(record: number, [low, high]: readonly [low: number, high: number]): number | undefined {
    if (low === 0 && high === 0) return undefined; // it could not be read
    const contents = this.#contents;
    const mask = this.#slots.length - 1;
    for (let slot = low & mask; ; slot = (slot + 1) & mask) {
      const there = this.#slots[slot]!;
      if (there === 0) {
        this.#slots[slot] = record + 1;
        contents[2 * record] = low;
        contents[2 * record + 1] = high;
        return undefined;
      }
      const other = there - 1;
      if (contents[2 * other] === low && contents[2 * other + 1] === high) return other;
    }
  }
}
