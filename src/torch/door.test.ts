/** The one door: every kind of argument and result, and the rule by which a JavaScript number becomes an integer or a float. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { B, room } from './door.js';
import { operators } from './generate/testing.js';
import {
  _foreachNorm,
  arange,
  cat,
  empty,
  full,
  RandomGenerator,
  nativeLayerNorm,
  ones,
  randn,
  scope,
  tensor,
  zeros,
  type DType,
  type Scalar,
  type Tensor,
} from './index.js';

/** Operators that the table has no use for, with the kinds of arguments that no other one has. */
const { _foreachAddScalars_, _fusedRmsNormBackward, divRounded, index, nanToNum, sortStable } =
  operators(
    { operator: '_foreach_add_.ScalarList', as: '_foreachAddScalars_' },
    { operator: '_fused_rms_norm_backward', nullable: true },
    { operator: 'div.Tensor_mode|Scalar_mode', as: 'divRounded' },
    { operator: 'index.Tensor' },
    { operator: 'nan_to_num' },
    { operator: 'sort.stable', as: 'sortStable' },
  ) as {
    _foreachAddScalars_: (list: Tensor[], scalars: Scalar[]) => void;
    _fusedRmsNormBackward: (...args: unknown[]) => [Tensor | null, Tensor | null];
    divRounded: (x: Tensor, y: Scalar, options: { roundingMode: string | null }) => Tensor;
    index: (x: Tensor, indices: (Tensor | null)[]) => Tensor;
    nanToNum: (x: Tensor, nan: number | null) => Tensor;
    sortStable: (
      x: Tensor,
      o: { stable: boolean | null; descending?: boolean },
    ) => [Tensor, Tensor];
  };

const values = (run: () => Tensor): unknown => scope(() => run().toArray());

describe('arguments', () => {
  test('Tensor, Tensor? and Tensor?[]', () => {
    scope(() => {
      const x = arange(0, 12, 1).view([3, 4]);
      const rows = tensor(new BigInt64Array([2n, 0n]));
      expect(index(x, [rows]).toArray()).toEqual([
        [8, 9, 10, 11],
        [0, 1, 2, 3],
      ]);
      expect(index(x, [null, rows]).toArray()).toEqual([
        [2, 0],
        [6, 4],
        [10, 8],
      ]);
      expect(index(x, [x.gt(9)]).toArray()).toEqual([10, 11]);
      expect(nativeLayerNorm(x, [4], null, null, 1e-5)[0].shape).toEqual([3, 4]);
      expect(nativeLayerNorm(x, [4], ones([4]), zeros([4]), 1e-5)[0].shape).toEqual([3, 4]);
    });
  });

  test('Tensor[] of any length, also longer than the shared buffer', () => {
    expect(() => {
      scope(() => {
        const one = ones([1]);
        expect(cat([one, one, one]).toArray()).toEqual([1, 1, 1]);
        expect(cat(new Array<Tensor>(40_000).fill(one)).numel).toBe(40_000);
      });
    }).toLeakNothing();
  });

  test('int, int?, int[] and int[]?', () => {
    scope(() => {
      const x = arange(0, 10, 1);
      expect(x.narrow(0, 2, 3).toArray()).toEqual([2, 3, 4]);
      expect(x.slice(0, 1, null, 4).toArray()).toEqual([1, 5, 9]);
      expect(x.slice(0, undefined, 2).toArray()).toEqual([0, 1]);
      expect(x.slice(0, -2).toArray()).toEqual([8, 9]);
      expect(x.view([2, -1]).sum([0]).toArray()).toEqual([5, 7, 9, 11, 13]);
      expect(x.sum(null).toArray()).toBe(45);
      expect(x.view([2, 5]).amax([]).toArray()).toBe(9);
    });
  });

  test('float, float?, bool, bool? and bool[]', () => {
    scope(() => {
      expect(nanToNum(tensor([NaN, 2]), 0.5).toArray()).toEqual([0.5, 2]);
      expect(nanToNum(tensor([NaN, 2]), null).toArray()).toEqual([0, 2]);
      expect(
        sortStable(tensor([3, 1, 2]), { stable: true, descending: true })[0].toArray(),
      ).toEqual([3, 2, 1]);
      expect(sortStable(tensor([3, 1, 2]), { stable: null })[0].toArray()).toEqual([1, 2, 3]);
      const x = ones([2, 4]);
      const [dx, dw] = _fusedRmsNormBackward(x, x, [4], ones([2, 1]), ones([4]), [false, true]);
      expect(dx).toBeNull();
      expect(dw!.shape).toEqual([4]);
    });
  });

  test('Scalar, Scalar? and Scalar[]', () => {
    scope(() => {
      expect(tensor([-1, 0.5, 2]).clamp(0, 1).toArray()).toEqual([0, 0.5, 1]);
      expect(tensor([-1, 0.5, 2]).clamp(null, 1).toArray()).toEqual([-1, 0.5, 1]);
      expect(tensor([-1, 0.5, 2]).clamp(0).toArray()).toEqual([0, 0.5, 2]);
      const list = [tensor([1, 2]), tensor([3])];
      _foreachAddScalars_(list, [0.5, 10]);
      expect(list.map((t) => t.toArray())).toEqual([[1.5, 2.5], [13]]);
      const integers = [tensor([1, 2], { dtype: 'int32' })];
      _foreachAddScalars_(integers, [3]);
      expect(integers[0]!.toArray()).toEqual([4, 5]);
    });
  });

  test('str and str?', () => {
    scope(() => {
      const x = tensor([1]);
      expect(x.gelu({ approximate: 'tanh' }).item()).not.toBe(x.gelu().item());
      expect(divRounded(tensor([-7]), 2, { roundingMode: 'floor' }).item()).toBe(-4);
      expect(divRounded(tensor([-7]), 2, { roundingMode: 'trunc' }).item()).toBe(-3);
      expect(divRounded(tensor([-7]), 2, { roundingMode: null }).item()).toBe(-3.5);
    });
  });

  test('dtype, layout, device, memory format and generator', () => {
    scope(() => {
      const generator = RandomGenerator.create(5);
      const options = { dtype: 'float64', layout: 'strided', device: 'cpu' } as const;
      expect(randn([2], { ...options, generator }).dtype).toBe('float64');
      expect(empty([2], { device: 'meta', dtype: 'float8_e4m3fn' }).device).toBe('meta');
      const pixels = empty([1, 2, 3, 4], { memoryFormat: 'channels_last' });
      expect(pixels.strides).toEqual([24, 1, 8, 2]);
      expect(pixels.clone({ memoryFormat: 'preserve' }).strides).toEqual([24, 1, 8, 2]);
      expect(pixels.contiguous().strides).toEqual([24, 12, 4, 1]);
      expect(pixels.clone({ memoryFormat: null }).dtype).toBe('float32');
      expect(ones([2], { pinMemory: false }).dtype).toBe('float32');
      generator.dispose();
    });
  });
});

describe('results', () => {
  test('several tensors, missing ones, numbers, lists', () => {
    scope(() => {
      const [largest, where] = tensor([1, 3, 2]).topk(1);
      expect([largest.item(), where.item(), where.dtype]).toEqual([3, 1, 'int64']);
      expect(
        arange(0, 5, 1)
          .splitWithSizes([2, 2, 1])
          .map((t) => t.toArray()),
      ).toEqual([[0, 1], [2, 3], [4]]);
      expect(_foreachNorm([tensor([3, 4]), tensor([2])]).map((t) => t.item())).toEqual([5, 2]);
    });
  });

  test('the tensor itself for operators in place', () => {
    scope(() => {
      const x = tensor([1, 2]);
      expect(x.add_(1).add_(x)).toBe(x);
      expect(x.toArray()).toEqual([4, 6]);
    });
  });

  test('lists longer than the shared buffer', () => {
    expect(() => {
      scope(() => {
        const rows = arange(0, 70_000, 1).splitWithSizes(new Array<number>(70_000).fill(1));
        expect(rows).toHaveLength(70_000);
        expect(rows.at(-1)!.item()).toBe(69_999);
      });
    }).toLeakNothing();
  });
});

describe('numbers', () => {
  const cases: [string, DType, Scalar, DType, unknown][] = [
    ['an integer to an integer', 'int32', 1, 'int32', [2, 3]],
    ['a fraction to an integer', 'int32', 1.5, 'float32', [2.5, 3.5]],
    ['an integer to a float', 'float32', 1, 'float32', [2, 3]],
    ['-0 to an integer', 'int32', -0, 'float32', [1, 2]],
    ['an unsafe integer to an integer', 'int64', 2 ** 60, 'float32', [2 ** 60, 2 ** 60]],
    ['infinity to an integer', 'int32', Infinity, 'float32', [Infinity, Infinity]],
    ['NaN to an integer', 'int64', NaN, 'float32', [NaN, NaN]],
    ['NaN to a float', 'float64', NaN, 'float64', [NaN, NaN]],
    ['a bigint to an integer', 'int64', 2n ** 62n, 'int64', [2 ** 62, 2 ** 62]],
    ['a bigint to a float', 'float32', 3n, 'float32', [4, 5]],
    ['an integer to a small integer', 'uint8', 3, 'uint8', [4, 5]],
    ['a boolean to an integer', 'int8', true, 'int8', [2, 3]],
    ['an integer to a boolean', 'bool', 2, 'int64', [3, 3]],
    ['a fraction to half precision', 'bfloat16', 0.5, 'bfloat16', [1.5, 2.5]],
  ];
  test.each(cases)('%s', (_, dtype, number, resultType, expected) => {
    scope(() => {
      const sum = tensor([1, 2]).to(dtype).add(number);
      expect(sum.dtype).toBe(resultType);
      expect(sum.toArray()).toEqual(expected);
    });
  });

  test('without a tensor the requested dtype decides', () => {
    scope(() => {
      expect(full([1], 2 ** 53 - 1, { dtype: 'int64' }).toTypedArray()[0]).toBe(2n ** 53n - 1n);
      expect(full([1], 3, { dtype: 'float32' }).dtype).toBe('float32');
      expect(full([1], 3).dtype).toBe('float32');
      expect(full([1], 3n).dtype).toBe('int64');
      expect(full([1], true).dtype).toBe('bool');
      expect(arange(0, 3, 1, { dtype: 'int64' }).toTypedArray()).toEqual(
        new BigInt64Array([0n, 1n, 2n]),
      );
      expect(full([1], -(2n ** 63n)).toTypedArray()[0]).toBe(-(2n ** 63n));
    });
  });

  test('-0, infinities and NaN survive', () => {
    scope(() => {
      expect(full([1], -0, { dtype: 'float64' }).toTypedArray()).toEqual(new Float64Array([-0]));
      expect(full([2], -Infinity).toArray()).toEqual([-Infinity, -Infinity]);
      expect(full([], NaN).item()).toBeNaN();
      expect(tensor([1]).mul(-0).toTypedArray()).toEqual(new Float32Array([-0]));
    });
  });

  test('every number is what it is', () => {
    fc.assert(
      fc.property(fc.double(), fc.bigInt({ min: -(2n ** 63n), max: 2n ** 63n - 1n }), (x, n) => {
        scope(() => {
          expect(full([1], x, { dtype: 'float64' }).toTypedArray()[0]).toBe(x);
          expect(full([1], n, { dtype: 'int64' }).toTypedArray()[0]).toBe(n);
        });
      }),
      { numRuns: 50 },
    );
  });
});

test('the shared buffer keeps what was written when it grows', () => {
  B[0] = 42;
  room(1, B.length + 1);
  expect(B[0]).toBe(42);
  expect(values(() => ones([2]).add(1))).toEqual([2, 2]);
});
