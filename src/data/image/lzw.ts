/**
 * The variable-length LZW code of GIF (GIF89a specification, appendix F).
 */

const MOST_CODES = 4096;
const LONGEST_CODE = 12;

/**
 * Unpacks `length` values of `bits` bits.
 *
 * @throws RangeError if the codes end before that, SyntaxError if one of them cannot be
 */
export function unpackLzw(packed: Uint8Array, bits: number, length: number): Uint8Array {
  const clear = 1 << bits;
  const end = clear + 1;
  // A code stands for the string of its prefix, then its last value; a root is the value itself.
  const prefix = new Uint16Array(MOST_CODES);
  const last = Uint8Array.from({ length: MOST_CODES }, (_, code) => code);
  const lengths = new Uint16Array(MOST_CODES).fill(1, 0, clear);
  const out = new Uint8Array(length);
  let written = 0;
  let width = bits + 1;
  let next = clear + 2;
  let previous: number | undefined;
  let window = 0;
  let available = 0;
  let at = 0;

  while (written < length) {
    while (available < width) {
      const byte = packed[at++];
      if (byte === undefined) throw new RangeError(`${written} of ${length} values are there`);
      window |= byte << available;
      available += 8;
    }
    const code = window & ((1 << width) - 1);
    window >>>= width;
    available -= width;

    if (code === clear) {
      width = bits + 1;
      next = clear + 2;
      previous = undefined;
      continue;
    }
    if (code === end) throw new RangeError(`${written} of ${length} values are there`);
    if (code > (previous === undefined ? end : next)) {
      throw new SyntaxError(`the code ${code} has no meaning yet`);
    }
    // The one code that may come before it is defined: the previous string and its own first value.
    const repeats = code === next && previous !== undefined;
    const known = repeats ? previous! : code;
    const count = lengths[known]!;
    let entry = known;
    for (let i = written + count - 1; i > written; i--) {
      if (i < length) out[i] = last[entry]!;
      entry = prefix[entry]!;
    }
    const first = last[entry]!;
    out[written] = first;
    written += count;
    if (repeats && written < length) out[written] = first;
    if (repeats) written += 1;

    if (previous !== undefined && next < MOST_CODES) {
      prefix[next] = previous;
      last[next] = first;
      lengths[next] = lengths[previous]! + 1;
      next += 1;
      if (next === 1 << width && width < LONGEST_CODE) width += 1;
    }
    previous = code;
  }
  return out;
}
