import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { unpackLzw } from './lzw.js';

/** A plain encoder: the longest known string each time, a clear code at the start and when the table is full. */
function packLzw(values: number[], bits: number): Uint8Array {
  const clear = 1 << bits;
  const bytes: number[] = [];
  let word = 0;
  let filled = 0;
  let width = bits + 1;
  let table = new Map<string, number>();
  const put = (code: number) => {
    word |= code << filled;
    filled += width;
    for (; filled >= 8; filled -= 8, word >>>= 8) bytes.push(word & 0xff);
  };
  const reset = () => {
    put(clear);
    table = new Map();
    width = bits + 1;
  };
  const codeOf = (run: number[]) => (run.length === 1 ? run[0]! : table.get(run.join())!);
  reset();
  let run: number[] = [];
  for (const value of values) {
    const longer = [...run, value];
    if (longer.length === 1 || table.has(longer.join())) {
      run = longer;
      continue;
    }
    put(codeOf(run));
    const next = clear + 2 + table.size;
    if (next < 4096) {
      table.set(longer.join(), next);
      if (next === 1 << width && width < 12) width += 1;
    } else if (value % 2 === 0) {
      reset(); // an encoder may also go on with a full table
    }
    run = [value];
  }
  if (run.length > 0) put(codeOf(run));
  put(clear + 1);
  if (filled > 0) bytes.push(word & 0xff);
  return Uint8Array.from(bytes);
}

describe('unpackLzw', () => {
  it('unpacks the example that every description of the format shows', () => {
    // 10 x 10 pixels of four colours, from "What's in a GIF".
    const packed = Buffer.from('8c2d99872a1cdc33a00275ec95faa8de608c04914c01', 'hex');
    const rows = ['1111122222', '1111122222', '1111122222', '1110000222', '1110000222'];
    const lower = ['2220000111', '2220000111', '2222211111', '2222211111', '2222211111'];
    expect([...unpackLzw(packed, 2, 100)].join('')).toBe([...rows, ...lower].join(''));
  });

  it('undoes the encoder, repeats and a full table included', () => {
    const cases = fc.integer({ min: 2, max: 8 }).chain((bits) =>
      fc.record({
        bits: fc.constant(bits),
        values: fc.array(fc.integer({ min: 0, max: 2 ** bits - 1 }), { minLength: 1 }),
        repeat: fc.integer({ min: 1, max: 300 }),
      }),
    );
    fc.assert(
      fc.property(cases, ({ bits, values, repeat }) => {
        const all = Array.from({ length: repeat }, () => values).flat();
        expect([...unpackLzw(packLzw(all, bits), bits, all.length)]).toEqual(all);
      }),
      { numRuns: 60 },
    );
    const noise = Array.from({ length: 30_000 }, (_, i) => (i * i * 31 + (i >> 3)) % 251);
    expect([...unpackLzw(packLzw(noise, 8), 8, noise.length)]).toEqual(noise);
  });

  it('throws one of its two errors, or returns, for any bytes', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 200 }),
        fc.integer({ min: 1, max: 8 }),
        fc.integer({ min: 0, max: 5000 }),
        (packed, bits, length) => {
          try {
            expect(unpackLzw(packed, bits, length)).toHaveLength(length);
          } catch (error) {
            expect(error instanceof RangeError || error instanceof SyntaxError).toBe(true);
          }
        },
      ),
    );
  });
});
