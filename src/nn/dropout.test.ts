import fc from 'fast-check';
import { expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import { cat, empty, grad, ones, randn, scope, tensor, type Tensor } from '../torch/index.js';
import { dropout, DropoutMasks, type RowPlaces } from './dropout.js';
import { expectClose, expectGradients, masksOf } from './testing.js';

/** Places of tokens that are packed one record after another. */
function packed(records: readonly (readonly [position: number, tokens: number])[]): RowPlaces {
  const int64 = (values: number[]): Tensor => tensor(values).to('int64');
  return {
    records: int64(records.flatMap(([position, T]) => new Array<number>(T).fill(position))),
    indices: int64(records.flatMap(([, T]) => [...Array(T).keys()])),
  };
}

test('drops the given share and scales the rest, in both directions', () => {
  scope(() => {
    const x = ones([300, 400]).requiresGrad_();
    const y = dropout(x, 0.2, masksOf(11, x));
    const values = y.toTypedArray() as Float32Array;
    expect(new Set(values)).toEqual(new Set([0, 1.25]));
    // Within five standard deviations of the binomial distribution.
    const dropped = values.reduce((sum, value) => sum + Number(value === 0), 0);
    expect(Math.abs(dropped - 24_000)).toBeLessThan(5 * Math.sqrt(120_000 * 0.2 * 0.8));
    expectClose(grad([y], [x], [ones([300, 400])])[0]!, y, 0);
  });
});

test('a mask depends on the record, the token and the channel alone: however records are packed', () => {
  const someRecords = fc.uniqueArray(fc.nat(1000), { minLength: 1, maxLength: 6 });
  fc.assert(
    fc.property(
      someRecords.chain((positions) =>
        fc.tuple(
          fc.tuple(
            ...positions.map((p) => fc.tuple(fc.constant(p), fc.integer({ min: 1, max: 5 }))),
          ),
          fc.shuffledSubarray(positions, { minLength: positions.length }),
        ),
      ),
      fc.integer({ min: 1, max: 9 }),
      fc.constantFrom('float32', 'float64', 'bfloat16', 'float16'),
      (records, C, dtype) => {
        scope(() => {
          const [inOrder, order] = records;
          const shuffled = order.map((p) => inOrder.find(([position]) => position === p)!);
          const dropped = (part: typeof inOrder): Tensor => {
            const T = part.reduce((sum, [, tokens]) => sum + tokens, 0);
            const masks = new DropoutMasks([7, 1], packed(part));
            return dropout(ones([1, T, C], { dtype }), 0.5, masks).squeeze(0);
          };
          const together = dropped(shuffled);
          const oneByOne = cat(shuffled.map((record) => dropped([record])));
          expect(together.toArray()).toEqual(oneByOne.toArray());
        });
      },
    ),
    { numRuns: cases(30) },
  );
});

test('patches of a picture are numbered on from those of the picture before it', () => {
  scope(() => {
    const int64 = (...values: number[]): Tensor => tensor(values).to('int64');
    const x = ones([3, 5, 6]);
    const places = { records: int64(4, 4, 9), indices: int64(0, 1, 0) };
    const pictures = dropout(x, 0.5, new DropoutMasks([1, 2], places));
    const tokens = dropout(
      x.view([15, 6]),
      0.5,
      new DropoutMasks(
        [1, 2],
        packed([
          [4, 10],
          [9, 5],
        ]),
      ),
    );
    expect(pictures.view([15, 6]).toArray()).toEqual(tokens.toArray());
  });
});

test('each layer, key and place has a mask of its own', () => {
  scope(() => {
    const x = ones([1, 64]);
    const masks = masksOf(5, x);
    const drawn = [dropout(x, 0.5, masks), dropout(x, 0.5, masks)];
    drawn.push(dropout(x, 0.5, masksOf(6, x)));
    for (const places of [
      packed([[1, 1]]),
      {
        records: x.zerosLike().to('int64').view([64]).narrow(0, 0, 1),
        indices: tensor([1]).to('int64'),
      },
    ]) {
      drawn.push(dropout(x, 0.5, new DropoutMasks([5, 0], places)));
    }
    expect(new Set(drawn.map((t) => JSON.stringify(t.toArray()))).size).toBe(5);
    expect(dropout(x, 0.5, masksOf(5, x)).toArray()).toEqual(drawn[0]!.toArray());
  });
});

test('has the gradients of finite differences, and of a view', () => {
  scope(() => {
    const x = randn([3, 4, 7], { dtype: 'float64' }).requiresGrad_();
    expectGradients(() => dropout(x.transpose(0, 1), 0.3, masksOf(2, x.transpose(0, 1))), [x]);
  });
});

test('what is not finite stays to be seen, dropped or not', () => {
  scope(() => {
    const x = tensor([NaN, Infinity]).unsqueeze(1).expand([2, 100]);
    const y = dropout(x, 0.5, masksOf(1, x));
    expect(y.isfinite().to('int64').sum(null).item()).toBe(0);
  });
});

test('is nothing without masks or probability, and runs on no tokens and on meta', () => {
  scope(() => {
    const x = ones([3]);
    expect(dropout(x, 0.5)).toBe(x);
    expect(dropout(x, 0, masksOf(5, x))).toBe(x);
    const none = ones([0, 4]).requiresGrad_();
    const y = dropout(none, 0.5, masksOf(1, none));
    expect(y.shape).toEqual([0, 4]);
    expect(grad([y], [none], [y.detach()])[0]!.shape).toEqual([0, 4]);
    const ghost = empty([2, 3], { device: 'meta', dtype: 'bfloat16' });
    expect(dropout(ghost, 0.5, masksOf(5, ghost)).shape).toEqual([2, 3]);
  });
});

test('places that do not fit the rows, and probabilities that are none, are refused', () => {
  scope(() => {
    const places = packed([[0, 4]]);
    const drop = (x: Tensor, p: number, { records, indices } = places) =>
      x.dropout(p, records, indices, [1, 2], 0);
    expect(() => drop(ones([6, 2]), 0.5)).toThrow(/cannot share 4 places among 6 rows/);
    expect(() => drop(ones([4, 2]), 1)).toThrow(/probability from 0 to below 1, not 1/);
    expect(() => drop(ones([4, 2]), NaN)).toThrow(/probability/);
    expect(() => drop(ones([4, 2], { dtype: 'int64' }), 0.5)).toThrow(/floating-point/);
    const { records } = places;
    expect(() => drop(ones([4, 2]), 0.5, { records, indices: ones([4]) })).toThrow(/int64/);
    expect(() => drop(ones([4, 2]), 0.5, { records, indices: records.narrow(0, 0, 2) })).toThrow(
      /4 records for 2 indices/,
    );
    expect(() => ones([4, 2]).dropout(0.5, records, records, [1], 0)).toThrow(/two words/);
  });
});
