/**
 * Rows in 8-bit floating point against their definition, written out in float64; operators that fuse quantising against the two one after
 * the other; kernels against composites on the GPU where there is one. Odd sizes, zeros, subnormal and huge numbers, NaN and infinities.
 */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { cases } from '../base/testing.js';
import { operators } from './generate/testing.js';
import {
  cat,
  cudaAvailable,
  type Device,
  type DType,
  fp8Project,
  fp8ProjectBackward,
  fp8Transpose,
  grad,
  RandomGenerator,
  randn,
  scope,
  tensor,
  type Tensor,
} from './index.js';

const composites = operators(
  { operator: 'patina::quantise_rows_fp8_composite' },
  { operator: 'patina::add_rms_norm_fp8_composite_' },
  { operator: 'patina::swiglu_fp8_composite' },
  { operator: 'patina::fp8_transpose_composite' },
  { operator: 'patina::fp8_product_composite' },
) as {
  quantiseRowsFp8Composite: (
    x: Tensor,
    ...rest: Parameters<Tensor['quantiseRowsFp8']>
  ) => [Tensor, Tensor];
  addRmsNormFp8Composite_: (x: Tensor, ...rest: Parameters<Tensor['addRmsNormFp8_']>) => Tensor[];
  swigluFp8Composite: (x: Tensor) => Tensor[];
  fp8TransposeComposite: typeof fp8Transpose;
  fp8ProductComposite: (x: Tensor, ...rest: Parameters<Tensor['fp8Product']>) => Tensor;
};

const TYPES = ['float8_e4m3fn', 'float8_e5m2'] as const;
type Fp8 = (typeof TYPES)[number];
/** Largest number, bits of mantissa, least exponent of a number that is not subnormal. */
const FORMATS = {
  float8_e4m3fn: { most: 448, mantissa: 3, least: -6 },
  float8_e5m2: { most: 57344, mantissa: 2, least: -14 },
} as const;
const devices: Device[] = cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'];

/** The nearest number of a format, ties to the one with an even last bit. */
function rounded(x: number, type: Fp8): number {
  const { mantissa, least } = FORMATS[type];
  const size = Math.abs(x);
  if (size === 0) return x;
  const exponent = Math.max(least, Math.floor(Math.log2(size)));
  const unit = 2 ** (exponent - mantissa);
  const below = Math.floor(size / unit);
  const rest = size / unit - below;
  const up = rest > 0.5 || (rest === 0.5 && below % 2 !== 0);
  return (x < 0 ? -unit : unit) * (below + (up ? 1 : 0));
}

/** Values of codes and the scale of a row, as fp8.cc defines them. */
function writtenOut(row: readonly number[], type: Fp8): { values: number[]; scale: number } {
  const { most } = FORMATS[type];
  const { fround } = Math;
  const largest = row.reduce((max, x) => (Math.abs(x) <= max ? max : Math.abs(x)), 0);
  if (!row.every(Number.isFinite)) return { values: row.map(() => NaN), scale: NaN };
  const scale = Math.max(fround(largest / most), 2 ** -126);
  const factor = fround(1 / scale);
  return { values: row.map((x) => rounded(fround(x * factor), type)), scale };
}

function expectRows(
  actual: readonly [Tensor, Tensor],
  rows: readonly (readonly number[])[],
  type: Fp8,
): void {
  const expected = rows.map((row) => writtenOut(row, type));
  expect(actual[0].dtype).toBe(type);
  expect(actual[0].to('float32').toArray()).toEqual(expected.map(({ values }) => values));
  expect(actual[1].toArray()).toEqual(expected.map(({ scale }) => [scale]));
}

/** Numbers of fp32 of any magnitude. */
const number = fc.oneof(
  fc.float({ noNaN: true, noDefaultInfinity: true }),
  fc.float({ min: -8, max: 8, noNaN: true }),
  fc.constantFrom(0, -0, 2 ** -149, 2 ** -126, 3.4028234663852886e38, 448, -57344),
);

describe.each(devices)('on %s', (device) => {
  test.each(TYPES)('rows are quantised as written out, in %s', (type) => {
    const matrix = fc
      .tuple(fc.integer({ min: 1, max: 4 }), fc.integer({ min: 1, max: 19 }))
      .chain(([rows, columns]) =>
        fc.array(fc.array(number, { minLength: columns, maxLength: columns }), {
          minLength: rows,
          maxLength: rows,
        }),
      );
    fc.assert(
      fc.property(matrix, (rows) => {
        scope(() => {
          expectRows(tensor(rows).to(device).quantiseRowsFp8(null, type), rows, type);
        });
      }),
      { numRuns: cases(100) },
    );
  });

  test.each(TYPES)('zeros, subnormal and huge numbers keep to their row, in %s', (type) => {
    scope(() => {
      const rows = [
        [0, 0, -0, 0, 0],
        [2 ** -149, -(2 ** -140), 0, 0, 0],
        [2 ** -126, 2 ** -127, 0, 1e-40, 0],
        [3e38, -1e38, 1e30, 1, 0],
        [1, -0.5, 1e-3, 1e-9, 0],
      ];
      expectRows(tensor(rows).to(device).quantiseRowsFp8(null, type), rows, type);
    });
  });

  test.each([NaN, Infinity, -Infinity])('%d is not cut off: its row becomes NaN', (odd) => {
    scope(() => {
      const x = tensor([
        [1, odd, 3, ...new Array<number>(13).fill(1)],
        [1, 2, 3, ...new Array<number>(13).fill(1)],
      ]).to(device);
      const w = randn([16, 16], { generator: RandomGenerator.create(1) }).to(device);
      for (const type of TYPES) {
        const [codes, scales] = x.quantiseRowsFp8(null, type);
        expect(scales.isfinite().toArray()).toEqual([[0], [1]]);
        const [wCodes, wScales] = w.quantiseRowsFp8(null, 'float8_e4m3fn');
        const product = codes.fp8Product(wCodes, scales, wScales, 'float32');
        const isFinite = product.isfinite().to('int32').sum([1]).toArray();
        expect(isFinite).toEqual([0, 16]);
      }
      // Within a matrix it reaches every result.
      // Within a matrix it reaches its own column of every result.
      const y = w.fp8Linear(null, ...x.quantiseRowsFp8(null, 'float8_e4m3fn'));
      expect(y.isfinite().to('int32').sum([0]).toArray()).toEqual([0, 16]);
    });
  });

  test('channels are multiplied by their factors first', () => {
    scope(() => {
      const x = randn([3, 7], { generator: RandomGenerator.create(2) });
      const factors = tensor([1, 2, 0.5, 1e-3, 0, 3, 1e6]);
      const [codes, scales] = x.to(device).quantiseRowsFp8(factors.to(device), 'float8_e4m3fn');
      const [others, otherScales] = x.mul(factors).quantiseRowsFp8(null, 'float8_e4m3fn');
      expect(bits(codes)).toEqual(bits(others));
      expect(scales.toArray()).toEqual(otherScales.toArray());
    });
  });

  test.each<DType>(['float32', 'float16', 'bfloat16'])(
    'norm and SwiGLU give the codes of what they give, in %s',
    (dtype) => {
      for (const [rows, channels] of [
        [1, 1],
        [3, 7],
        [5, 64],
        [2, 8200],
        [2, 16_392],
      ] as const) {
        scope(() => {
          const generator = RandomGenerator.create(channels);
          const draw = (...shape: number[]): Tensor =>
            randn(shape, { generator }).to(dtype).to(device);
          const [x, other, weight] = [draw(rows, channels), draw(rows, channels), draw(channels)];
          for (const added of [null, other]) {
            const [mine, plain] = [x.clone(), x.clone()];
            const [y, rstd, ...coded] = mine.addRmsNormFp8_(added, weight, 1e-5);
            const [expected, expectedRstd] = plain.addRmsNorm_(added, weight, 1e-5);
            expect([bits(y), bits(mine)]).toEqual([bits(expected), bits(plain)]);
            expect(rstd.toArray()).toEqual(expectedRstd.toArray());
            expectSameRows(coded, y.quantiseRowsFp8(null, 'float8_e4m3fn'));
          }
          const both = draw(rows, 2 * channels);
          const [product, ...coded] = both.swigluFp8();
          expect(bits(product)).toEqual(bits(both.swiglu()));
          expectSameRows(coded, product.quantiseRowsFp8(null, 'float8_e4m3fn'));
        });
      }
    },
  );

  test('matrices are laid the other way round, side by side or apart', () => {
    for (const [first, second, columns] of [
      [1, 1, 1],
      [3, 5, 7],
      [64, 64, 64],
      [80, 130, 96],
      [16, 48, 208],
    ] as const) {
      scope(() => {
        const generator = RandomGenerator.create(columns);
        const [codes] = randn([first + second, columns], { generator })
          .to(device)
          .quantiseRowsFp8(null, 'float8_e4m3fn');
        const parts = [codes.narrow(0, 0, first), codes.narrow(0, first, second).clone()];
        const expected = codes.transpose(0, 1).viewAs('uint8').to('cpu').toArray();
        for (const matrices of [[codes], parts]) {
          expect(fp8Transpose(matrices).viewAs('uint8').to('cpu').toArray()).toEqual(expected);
        }
      });
    }
  });

  test.each(TYPES)('products and their backward are those of what codes stand for: %s', (type) => {
    scope(() => {
      const generator = RandomGenerator.create(9);
      const draw = (...shape: number[]): Tensor =>
        randn(shape, { generator }).to('bfloat16').to(device);
      const [x, one, two, bias] = [draw(5, 32), draw(16, 32), draw(48, 32), draw(48)];
      const coded = (w: Tensor): [Tensor, Tensor] => w.quantiseRowsFp8(null, 'float8_e4m3fn');
      const dense = ([codes, scales]: readonly [Tensor, Tensor]): Tensor =>
        codes.to('float64').mul(scales.to('float64'));
      const [a, b, rows] = [coded(one), coded(two), coded(x)];
      const matrices = [
        [a[0], b[0]],
        [a[1], b[1]],
      ] as const;
      const y = fp8Project(...rows, ...matrices, [null, bias], 'bfloat16');
      const stacked = cat([dense(a), dense(b)], 0);
      const expected = dense(rows).matmul(stacked.transpose(0, 1));
      const columns = expected.narrow(1, 16, 48).add(bias.to('float64'));
      expect(distance(y.narrow(1, 0, 16), expected.narrow(1, 0, 16))).toBeLessThan(0.005);
      expect(distance(y.narrow(1, 16, 48), columns)).toBeLessThan(0.01);

      // dx: the gradient times the rows' scales is quantised, so that it alone is rounded.
      const g = draw(5, 64);
      const dx = fp8ProjectBackward(g, ...matrices, type);
      const scales = cat([a[1], b[1]], 0).view([-1]);
      const quantised = dense(g.quantiseRowsFp8(scales, type));
      const codes = cat([a[0].to('float64'), b[0].to('float64')], 0);
      expect(distance(dx, quantised.matmul(codes))).toBeLessThan(0.005);
      expect(distance(dx, g.to('float64').matmul(stacked))).toBeLessThan(
        type === 'float8_e4m3fn' ? 0.06 : 0.12,
      );
    });
  });
});

test('a layer is differentiated in its input and its bias', () => {
  scope(() => {
    const generator = RandomGenerator.create(3);
    const draw = (...shape: number[]): Tensor => randn(shape, { generator });
    const w = draw(6, 10).quantiseRowsFp8(null, 'float8_e4m3fn');
    const [x, bias] = [draw(2, 3, 10).requiresGrad_(), draw(6).requiresGrad_()];
    const y = x.fp8Linear(bias, ...w);
    const g = draw(2, 3, 6);
    const [dx, db] = grad([y], [x, bias], [g]);
    expect(dx!.shape).toEqual([2, 3, 10]);
    const rows = fp8ProjectBackward(g.view([6, 6]), [w[0]], [w[1]], 'float8_e4m3fn');
    expect(bits(dx!.view([6, 10]))).toEqual(bits(rows));
    expect(distance(db!, g.sum([0, 1]))).toBeLessThan(1e-6);
  });
});

test('what does not fit is refused', () => {
  scope(() => {
    const x = randn([2, 4]);
    const [codes, scales] = x.quantiseRowsFp8(null, 'float8_e4m3fn');
    expect(() => x.quantiseRowsFp8(null, 'float16')).toThrow(/float8_e4m3fn or float8_e5m2/);
    expect(() => codes.quantiseRowsFp8(null, 'float8_e4m3fn')).toThrow(/floating-point numbers/);
    expect(() => x.quantiseRowsFp8(randn([3]), 'float8_e5m2')).toThrow(/4 rows .* as many scales/);
    expect(() => codes.fp8Product(codes, randn([3]), scales, 'float32')).toThrow(/as many scales/);
    expect(() => x.fp8Product(codes, scales, scales, 'float32')).toThrow(/matrices in fp8/);
    expect(() => fp8Transpose([codes, randn([2, 4])])).toThrow(/matrices of bytes/);
  });
});

describe.skipIf(!cudaAvailable())('kernels', () => {
  test('equal composites to the bit', () => {
    for (const dtype of ['float32', 'float16', 'bfloat16'] as const) {
      for (const [rows, channels] of [
        [3, 5],
        [33, 1024],
        [4, 28_672],
      ] as const) {
        scope(() => {
          const x = randn([rows, channels], { generator: RandomGenerator.create(rows) })
            .to(dtype)
            .to('cuda:0');
          const factors = x.narrow(0, 0, 1).abs().to('float32').contiguous();
          for (const type of TYPES) {
            for (const by of [null, factors]) {
              expectSameRows(
                x.quantiseRowsFp8(by, type),
                composites.quantiseRowsFp8Composite(x, by, type),
              );
            }
          }
          const [codes, scales] = x.quantiseRowsFp8(null, 'float8_e4m3fn');
          const own = codes.fp8Product(codes, scales, scales, 'bfloat16');
          const other = composites.fp8ProductComposite(codes, codes, scales, scales, 'bfloat16');
          expect(distance(own, other)).toBeLessThan(0.01);
        });
      }
    }
  });
});

function expectSameRows(actual: readonly Tensor[], expected: readonly Tensor[]): void {
  expect(bits(actual[0]!)).toEqual(bits(expected[0]!));
  expect(bits(actual[1]!)).toEqual(bits(expected[1]!));
}

const bits = (x: Tensor): Uint8Array => x.detach().to('cpu').contiguous().toBytes();

/** Root mean square of the difference, as a share of that of what is expected. */
function distance(actual: Tensor, expected: Tensor): number {
  const [a, e] = [actual.to('cpu').to('float64'), expected.to('cpu').to('float64')];
  return Math.sqrt(a.sub(e).square().sum(null).item() / e.square().sum(null).item());
}
