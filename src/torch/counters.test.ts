/**
 * The operators whose random numbers are a function of key and place: Philox against the vectors that its authors published, and the kernels
 * against composites of libtorch's operators, to the bit; on the GPU too where there is one.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import { operators } from './generate/testing.js';
import {
  arange,
  cudaAvailable,
  empty,
  fromTypedArray,
  full,
  grad,
  randn,
  scope,
  tensor,
  type CounterKey,
  type Device,
  type DType,
  type Tensor,
} from './index.js';

const { philox, philoxComposite, dropoutComposite, roundStochasticComposite_ } = operators(
  { operator: 'patina::philox' },
  { operator: 'patina::philox_composite' },
  { operator: 'patina::dropout_composite' },
  { operator: 'patina::round_stochastic_composite_' },
) as {
  philox: (counters: Tensor, key: CounterKey) => Tensor;
  philoxComposite: (counters: Tensor, key: CounterKey) => Tensor;
  dropoutComposite: (x: Tensor, ...rest: Parameters<Tensor['dropout']>) => Tensor;
  roundStochasticComposite_: (x: Tensor, ...rest: Parameters<Tensor['roundStochastic_']>) => Tensor;
};

const DEVICES: Device[] = cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'];
const bytes = (t: Tensor): string => Buffer.from(t.to('cpu').toBytes()).toString('hex');
const int64 = (values: readonly number[], device: Device = 'cpu'): Tensor =>
  tensor(values, { dtype: 'float64' }).to('int64').to(device);

/** philox4x32, 10 rounds, of Random123's kat_vectors: counter, key, result. */
const KNOWN = [
  [
    '00000000 00000000 00000000 00000000',
    '00000000 00000000',
    '6627e8d5 e169c58d bc57ac4c 9b00dbd8',
  ],
  [
    'ffffffff ffffffff ffffffff ffffffff',
    'ffffffff ffffffff',
    '408f276d 41c83b0e a20bc7c6 6d5451fd',
  ],
  [
    '243f6a88 85a308d3 13198a2e 03707344',
    'a4093822 299f31d0',
    'd16cfe09 94fdcceb 5001e420 24126ea1',
  ],
] as const;
const words = (text: string): number[] => text.split(' ').map((word) => parseInt(word, 16));

test.each(KNOWN)('Philox of %s', (counter, key, expected) => {
  scope(() => {
    for (const compute of [philox, philoxComposite]) {
      const drawn = compute(
        int64(words(counter)).unsqueeze(0),
        words(key) as unknown as CounterKey,
      );
      expect(drawn.toArray()).toEqual([words(expected)]);
    }
  });
});

describe.each(DEVICES)('on %s', (device) => {
  test.each<DType>(['float32', 'float64', 'bfloat16', 'float16'])(
    'dropout of %s is its composite to the bit, in any shape',
    (dtype) => {
      fc.assert(
        fc.property(
          fc.record({
            ...{ places: fc.nat(7), perPlace: fc.integer({ min: 1, max: 5 }) },
            channels: fc.integer({ min: 1, max: 37 }),
            p: fc.constantFrom(0, 0.05, 0.1, 0.5, 0.999),
            first: fc.constantFrom(0, 5, 2 ** 31 - 9),
            key: fc.tuple(fc.nat(2 ** 32 - 1), fc.nat(2 ** 32 - 1)),
            layer: fc.nat(300),
          }),
          ({ places, perPlace, channels, p, first, key, layer }) => {
            scope(() => {
              const x = randn([places, perPlace, channels], { device }).to(dtype);
              const records = arange(first, first + places, 1, { dtype: 'int64', device });
              const given = [p, records, records, key, layer] as const;
              const [kernel, composite] = [x.dropout(...given), dropoutComposite(x, ...given)];
              expect([kernel.dtype, kernel.shape]).toEqual([dtype, x.shape]);
              expect(bytes(kernel)).toBe(bytes(composite));
              const onCpu = records.to('cpu');
              expect(bytes(x.to('cpu').dropout(p, onCpu, onCpu, key, layer))).toBe(bytes(kernel));
            });
          },
        ),
        { numRuns: cases(40) },
      );
    },
  );

  test('stochastic rounding is its composite to the bit, and that of the whole, wherever it is cut', () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 100 }),
        fc.nat(100),
        fc.constantFrom(0, 3, 2 ** 31 - 1, 2 ** 35 + 5),
        fc.tuple(fc.nat(2 ** 32 - 1), fc.nat(2 ** 32 - 1)),
        (count, part, from, key) => {
          scope(() => {
            const source = randn([count], { device });
            const cut = part % (count + 1);
            const target = (n: number): Tensor => empty([n], { dtype: 'bfloat16', device });
            const whole = bytes(target(count).roundStochastic_(source, key, from));
            expect(bytes(roundStochasticComposite_(target(count), source, key, from))).toBe(whole);
            const [low, high] = [source.narrow(0, 0, cut), source.narrow(0, cut, count - cut)];
            const parts = [
              target(cut).roundStochastic_(low, key, from),
              target(count - cut).roundStochastic_(high, key, from + cut),
            ];
            expect(parts.map(bytes).join('')).toBe(whole);
          });
        },
      ),
      { numRuns: cases(60) },
    );
  });

  test('stochastic rounding goes up with the probability of the distance, and keeps what is not finite', () => {
    scope(() => {
      const count = 100_000;
      const target = empty([count], { dtype: 'bfloat16', device });
      // Between 1 and 1 + 1/128.
      const round = (value: number): number[] =>
        target.roundStochastic_(full([count], value, { device }), [3, 4]).toArray() as number[];
      for (const share of [0.25, 0.9]) {
        const rounded = round(1 + share / 128);
        expect(new Set(rounded)).toEqual(new Set([1, 1 + 1 / 128]));
        const up = rounded.filter((value) => value > 1).length;
        expect(Math.abs(up - share * count)).toBeLessThan(
          5 * Math.sqrt(count * share * (1 - share)),
        );
      }
      expect(new Set(round(-1.5))).toEqual(new Set([-1.5]));
      const special = tensor([Infinity, -Infinity, NaN, -NaN, 0, -0], { dtype: 'float32', device });
      const kept = empty([6], { dtype: 'bfloat16', device });
      for (const compute of [
        roundStochasticComposite_,
        kept.roundStochastic_.call.bind(kept.roundStochastic_),
      ]) {
        compute(kept, special, [1, 2]);
        expect(kept.toArray()).toEqual([Infinity, -Infinity, NaN, NaN, 0, -0]);
      }
      const payload = fromTypedArray(Int32Array.of(0x7f800001), [1]).viewAs('float32').to(device);
      expect(
        empty([1], { dtype: 'bfloat16', device }).roundStochastic_(payload, [1, 2]).toArray(),
      ).toEqual([NaN]);
    });
  });
});

test('stochastic rounding refuses what it cannot write', () => {
  scope(() => {
    const target = empty([4], { dtype: 'bfloat16' });
    const round = (to: Tensor, source: Tensor, from = 0) =>
      to.roundStochastic_(source, [1, 2], from);
    expect(() => round(target, full([3], 1))).toThrow(/3 elements to round into 4/);
    expect(() => round(target, full([4], 1, { dtype: 'float64' }))).toThrow(/float32 to bfloat16/);
    expect(() => round(target, full([4], 1), -1)).toThrow(/from 0, not -1/);
    const apart = empty([4, 2], { dtype: 'bfloat16' }).select(1, 0);
    expect(() => round(apart, full([4], 1))).toThrow(/contiguous/);
  });
});

test('what is rounded in place counts as changed', () => {
  scope(() => {
    const w = full([2], 1, { dtype: 'bfloat16' });
    const x = full([2], 1, { dtype: 'bfloat16' }).requiresGrad_();
    const y = x.mul(w);
    w.roundStochastic_(full([2], 1), [1, 2]);

    expect(() => grad([y.sum(null)], [x])).toThrow(/modified by an inplace operation/);
  });
});
