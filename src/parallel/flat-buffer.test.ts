import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import {
  cat,
  enableGrad,
  grad,
  liveTensors,
  noGrad,
  scope,
  tensor,
  type Tensor,
} from '../torch/index.js';
import { FlatBuffer, FlatLayout } from './flat-buffer.js';

const shapes = fc.array(fc.array(fc.integer({ min: 1, max: 9 }), { minLength: 0, maxLength: 3 }), {
  minLength: 1,
  maxLength: 6,
});

describe('FlatLayout', () => {
  test('pieces of all ranks are every element of every parameter, once and in order', () => {
    fc.assert(
      fc.property(shapes, fc.integer({ min: 1, max: 8 }), (list, ranks) => {
        const named = new Map(list.map((shape, i) => [`p${i}`, shape] as const));
        const layout = new FlatLayout(named, ranks);
        expect(layout.length).toBe(layout.sliceLength * ranks);
        const seen = new Map<string, number>();
        for (let rank = 0; rank < ranks; rank++) {
          for (const { name, from, at, length } of layout.piecesOf(rank)) {
            expect(from).toBe(seen.get(name) ?? 0);
            expect(length).toBeGreaterThan(0);
            expect(at + length).toBeLessThanOrEqual(layout.sliceLength);
            const { start } = layout.stretches.get(name)!;
            expect(rank * layout.sliceLength + at).toBe(start + from);
            seen.set(name, from + length);
          }
        }
        for (const [name, shape] of named) {
          expect(seen.get(name)).toBe(shape.reduce((a, b) => a * b, 1));
        }
      }),
    );
  });

  test('parameters are cut at multiples of 256 of their elements', () => {
    fc.assert(
      fc.property(
        fc.array(fc.integer({ min: 1, max: 5000 }), { minLength: 1, maxLength: 6 }),
        fc.integer({ min: 1, max: 8 }),
        (lengths, ranks) => {
          const named = new Map(lengths.map((length, i) => [`p${i}`, [length]] as const));
          const layout = new FlatLayout(named, ranks);
          for (let rank = 0; rank < ranks; rank++) {
            for (const { from } of layout.piecesOf(rank)) expect(from % 256).toBe(0);
          }
        },
      ),
    );
  });
});

/** Two parameters with values of their own. */
function parameters(): Map<string, Tensor> {
  const a = tensor([[1, 2, 3], [4, 5, 6]]); // prettier-ignore
  const b = tensor([7, 8]);
  return new Map([['a', a.requiresGrad_()], ['b', b.requiresGrad_()]]); // prettier-ignore
}

function build(rank: number, resident: boolean): FlatBuffer {
  const given = parameters();
  const buffer = new FlatBuffer(given, { rank, ranks: 2, resident });
  for (const each of given.values()) each.dispose();
  return buffer;
}

function free(buffer: FlatBuffer): void {
  for (const leaf of buffer.leaves.values()) leaf.dispose();
  buffer.dispose();
}

describe('FlatBuffer', () => {
  test('slices of all ranks, gathered, are the parameters; the leaves see them', () => {
    const before = liveTensors();
    const ranks = [build(0, false), build(1, false)];
    const own = ranks[0]!;
    expect(own.whole.storageBytes).toBe(0);
    own.allocate();
    const all = noGrad(() => cat(ranks.map(({ slice }) => slice)));
    noGrad(() => own.whole.overwrite(all));
    all.dispose();
    expect(own.leaves.get('a')!.toArray()).toEqual([[1, 2, 3], [4, 5, 6]]); // prettier-ignore
    expect(own.leaves.get('b')!.toArray()).toEqual([7, 8]);
    for (const each of ranks) free(each);
    expect(liveTensors()).toBe(before);
  });

  test('a graph that was kept of a leaf is valid after its memory was freed and refilled', () => {
    const buffer = build(0, false);
    const other = build(1, false);
    const refill = (): void => {
      buffer.allocate();
      scope(() => void buffer.whole.overwrite(cat([buffer.slice, other.slice])));
    };
    refill();
    const leaf = buffer.leaves.get('b')!;
    const y = enableGrad(() => leaf.mul(leaf).mul(leaf));
    buffer.free();
    refill();
    const ones = y.detach().fullLike(1);
    const [gradient] = grad([y], [leaf], [ones]);
    expect(gradient!.toArray()).toEqual([147, 192]);
    for (const each of [y, ones, gradient!]) each.dispose();
    free(buffer);
    free(other);
  });

  test('what stays resident shares its memory with its slice', () => {
    const buffer = build(0, true);
    noGrad(() => buffer.slice.fill_(9));
    expect(buffer.leaves.get('b')!.toArray()).toEqual(
      [7, 8].map((x, i) => {
        const { start } = buffer.layout.stretches.get('b')!;
        return start + i < buffer.layout.sliceLength ? 9 : x;
      }),
    );
    expect(buffer.bytes).toBe(buffer.whole.bytes);
    free(buffer);
  });

  test('a slice kept in another type is rounded into its part of the whole', () => {
    const given = new Map([...parameters()].map(([name, t]) => [name, t.to('bfloat16')]));
    const buffer = new FlatBuffer(given, {
      rank: 0,
      ranks: 2,
      resident: false,
      kept: { dtype: 'float32' },
    });
    for (const each of given.values()) each.dispose();
    expect(buffer.slice.dtype).toBe('float32');
    expect(buffer.bytes).toBe(4 * buffer.layout.sliceLength);
    noGrad(() => buffer.slice.fill_(1.001));
    buffer.allocate();
    expect(buffer.bring().dtype).toBe('bfloat16');
    expect(buffer.leaves.get('a')!.toArray()).toEqual([[1, 1, 1], [1, 1, 1]]); // prettier-ignore
    free(buffer);
  });

  test('pieces are views of what is laid out as a slice', () => {
    const buffer = build(1, false);
    const sums = noGrad(() => buffer.slice.zerosLike());
    for (const piece of buffer.piecesIn(sums).values()) {
      noGrad(() => piece.fill_(1));
      piece.dispose();
    }
    const count = buffer.pieces.reduce((sum, { length }) => sum + length, 0);
    expect(sums.sum(null).item()).toBe(count);
    sums.dispose();
    free(buffer);
  });
});
