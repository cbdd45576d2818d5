/**
 * The operators of a decoder block against what they stand for, written out, and its gradients by autograd; kernels against composites
 * on the GPU where there is one. Odd sizes, every dtype, rows with other elements between them.
 */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import { operators } from './generate/testing.js';
import {
  cat,
  cudaAvailable,
  grad,
  RandomGenerator,
  randn,
  rotaryBackward,
  scope,
  type Device,
  type DType,
  type Tensor,
} from './index.js';

const composites = operators(
  { operator: 'patina::add_rms_norm_composite_' },
  { operator: 'patina::rms_norm_backward_composite_' },
  { operator: 'patina::rotary_composite_' },
  { operator: 'patina::rotary_backward_composite' },
  { operator: 'patina::swiglu_composite' },
  { operator: 'patina::swiglu_backward_composite_' },
) as {
  addRmsNormComposite_: (x: Tensor, ...rest: Parameters<Tensor['addRmsNorm_']>) => Tensor[];
  rmsNormBackwardComposite_: (x: Tensor, ...rest: Parameters<Tensor['rmsNormBackward_']>) => Tensor;
  rotaryComposite_: (x: Tensor, ...rest: Parameters<Tensor['rotary_']>) => Tensor;
  rotaryBackwardComposite: typeof rotaryBackward;
  swigluComposite: (x: Tensor) => Tensor;
  swigluBackwardComposite_: (x: Tensor, g: Tensor) => void;
};

/** Largest difference, as a share of the largest magnitude. */
function distance(actual: Tensor, expected: Tensor): number {
  expect(actual.shape).toEqual(expected.shape);
  if (actual.numel === 0) return 0;
  return scope(() => {
    const [a, e] = [actual.detach().to('float64'), expected.detach().to('float64')];
    return a.sub(e).abs().max().item() / (e.abs().max().item() + 1e-30);
  });
}

const EPS = 1e-5;
/** Where rounding stands in the way: a few units in the last place. */
const ROUNDING: Readonly<Partial<Record<DType, number>>> = {
  float64: 1e-12,
  float32: 3e-6,
  float16: 3e-3,
  bfloat16: 2e-2,
};
const DTYPES = Object.keys(ROUNDING) as DType[];

/** Random tensors of one call, the same for each who makes them in the same order. */
function drawer(seed: number, dtype: DType, device: Device) {
  const generator = RandomGenerator.create(seed);
  /** Rows of the last dimension, with `gap` other elements after each. */
  return (shape: readonly number[], gap = 0): Tensor => {
    const columns = shape.at(-1)!;
    const wide = [...shape.slice(0, -1), columns + gap];
    const drawn = randn(wide, { generator }).to(dtype).to(device);
    return drawn.narrow(-1, 0, columns);
  };
}

/** All operators on the same numbers. */
interface Calls {
  norm(x: Tensor, other: Tensor | null, weight: Tensor): readonly Tensor[];
  normBackward(g: Tensor, x: Tensor, w: Tensor, rstd: Tensor, other: Tensor | null): Tensor;
  rotary(x: Tensor, cos: Tensor, sin: Tensor, heads: number): Tensor;
  rotaryBackward: typeof rotaryBackward;
  swiglu(x: Tensor): Tensor;
  swigluBackward(x: Tensor, g: Tensor): void;
}

const OPERATORS: Calls = {
  norm: (x, other, weight) => x.addRmsNorm_(other, weight, EPS),
  normBackward: (g, x, w, rstd, other) => g.rmsNormBackward_(x, w, rstd, other),
  rotary: (x, cos, sin, heads) => x.rotary_(cos, sin, heads),
  rotaryBackward,
  swiglu: (x) => x.swiglu(),
  swigluBackward: (x, g) => {
    x.swigluBackward_(g);
  },
};

const COMPOSITES: Calls = {
  norm: (x, other, weight) => composites.addRmsNormComposite_(x, other, weight, EPS),
  normBackward: (g, x, w, rstd, other) =>
    composites.rmsNormBackwardComposite_(g, x, w, rstd, other),
  rotary: (x, cos, sin, heads) => composites.rotaryComposite_(x, cos, sin, heads),
  rotaryBackward: composites.rotaryBackwardComposite,
  swiglu: composites.swigluComposite,
  swigluBackward: composites.swigluBackwardComposite_,
};

const turn = (x: Tensor, cos: Tensor, sin: Tensor): Tensor => {
  const half = x.shape[2]! / 2;
  const turned = cat([x.narrow(2, half, half).neg(), x.narrow(2, 0, half)], 2);
  return x.mul(cos.unsqueeze(1)).add(turned.mul(sin.unsqueeze(1)));
};

/** Written out, with backwards by autograd: in float64 alone. */
const WRITTEN_OUT: Calls = {
  norm: (x, other, weight) => {
    if (other !== null) x.add_(other);
    const rstd = x.square().mean([-1], true).add(EPS).pow(-0.5);
    return [x.mul(rstd).mul(weight), rstd];
  },
  normBackward: (g, x, weight, _rstd, other) => {
    const leaf = x.detach().requiresGrad_();
    const y = WRITTEN_OUT.norm(leaf, null, weight)[0]!;
    const dx = grad([y], [leaf], [g.clone()])[0]!;
    return g.copy_(other === null ? dx : dx.add(other));
  },
  rotary: (x, cos, sin, heads) => {
    const part = x.narrow(1, 0, heads);
    part.copy_(turn(part, cos, sin));
    return x;
  },
  rotaryBackward: (q, k, v, cos, sin) => {
    const back = (g: Tensor): Tensor => {
      const leaf = g.detach().clone().requiresGrad_();
      return grad([turn(leaf, cos, sin)], [leaf], [g])[0]!;
    };
    return cat([back(q), back(k), v], 1);
  },
  swiglu: (x) => {
    const F = x.shape[1]! / 2;
    return x
      .narrow(1, 0, F)
      .silu()
      .mul(x.narrow(1, F, F));
  },
  swigluBackward: (x, g) => {
    const leaf = x.detach().clone().requiresGrad_();
    const product = WRITTEN_OUT.swiglu(leaf);
    x.copy_(grad([product], [leaf], [g.clone()])[0]!);
    g.copy_(product.detach());
  },
};

interface Sizes {
  readonly rows: number;
  readonly channels: number;
  readonly heads: number;
  readonly groups: number;
  readonly gap: number;
  readonly adds: boolean;
}

/** What all operators leave of the same numbers, inputs included. */
function outcome(
  calls: Calls,
  { rows, channels, heads, groups, gap, adds }: Sizes,
  dtype: DType,
  device: Device,
): Tensor[] {
  const draw = drawer(7, dtype, device);
  const [x, g] = [draw([rows, channels], gap), draw([rows, channels], gap)];
  const [other, above] = [draw([rows, channels], gap), draw([rows, channels])];
  const weight = draw([channels]);
  const [y, rstd] = calls.norm(x, adds ? other : null, weight) as [Tensor, Tensor];
  calls.normBackward(g, x, weight, rstd, adds ? above : null);

  const D = 2 * channels;
  const half = draw([rows, channels]);
  const [cos, sin] = [half.cos(), half.sin()].map((each) => cat([each, each], 1)) as [
    Tensor,
    Tensor,
  ];
  const all = draw([rows, heads + 2 * groups, D], gap);
  calls.rotary(all, cos, sin, heads + groups);
  const ofHeads = [heads, groups, groups].map((count) => draw([rows, count, D], gap)) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const joined = calls.rotaryBackward(...ofHeads, cos, sin);

  const [gateUp, upstream] = [draw([rows, D], gap), draw([rows, channels], gap)];
  const product = calls.swiglu(gateUp);
  calls.swigluBackward(gateUp, upstream);
  return [x, y, rstd, g, all, joined, product, gateUp, upstream];
}

const sizes: fc.Arbitrary<Sizes> = fc.record({
  rows: fc.integer({ min: 1, max: 5 }),
  channels: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(64, 1024, 4104)),
  heads: fc.integer({ min: 1, max: 4 }),
  groups: fc.integer({ min: 1, max: 2 }),
  gap: fc.constantFrom(0, 3, 16),
  adds: fc.boolean(),
});

test('what is written out, in float64, and its gradients by autograd', () => {
  fc.assert(
    fc.property(sizes, (given) => {
      // One channel alone has next to no gradient: what remains of it is rounding.
      const each = given.channels === 1 ? { ...given, adds: true } : given;
      scope(() => {
        const expected = outcome(WRITTEN_OUT, each, 'float64', 'cpu');
        outcome(OPERATORS, each, 'float64', 'cpu').forEach((actual, i) => {
          expect(distance(actual, expected[i]!), `result ${i}`).toBeLessThan(1e-12);
        });
      });
    }),
    { numRuns: cases(20) },
  );
});

describe.each(DTYPES)('in %s', (dtype) => {
  test('computes wider and rounds once', () => {
    fc.assert(
      fc.property(sizes, (each) => {
        scope(() => {
          const wide = dtype === 'float64' ? 'float64' : 'float32';
          const draw = drawer(3, dtype, 'cpu');
          const [x, weight] = [draw([each.rows, each.channels]), draw([each.channels])];
          const [g, gateUp] = [
            draw([each.rows, each.channels]),
            draw([each.rows, 2 * each.channels]),
          ];
          const widened = (t: Tensor): Tensor => t.clone().to(wide);
          const [exact] = widened(x).addRmsNorm_(null, widened(weight), EPS);
          const [y, rstd] = x.addRmsNorm_(null, weight, EPS);
          expect([y.dtype, rstd.dtype]).toEqual([dtype, wide]);
          expect(y.toBytes()).toEqual(exact.to(dtype).toBytes());
          const exactG = widened(g).rmsNormBackward_(widened(x), widened(weight), rstd, null);
          expect(g.rmsNormBackward_(x, weight, rstd, null).toBytes()).toEqual(
            exactG.to(dtype).toBytes(),
          );
          expect(gateUp.swiglu().toBytes()).toEqual(widened(gateUp).swiglu().to(dtype).toBytes());
        });
      }),
      { numRuns: cases(5) },
    );
  });

  test.runIf(cudaAvailable())('kernels give what composites give', () => {
    fc.assert(
      fc.property(sizes, (drawn) => {
        scope(() => {
          // Alone, the gradient of a norm of one channel or two is a difference of terms so alike that rounding is what is left of them.
          const each = { ...drawn, adds: drawn.adds || drawn.channels < 3 };
          const expected = outcome(COMPOSITES, each, dtype, 'cuda:0');
          outcome(OPERATORS, each, dtype, 'cuda:0').forEach((actual, i) => {
            expect(distance(actual, expected[i]!), `result ${i}`).toBeLessThan(ROUNDING[dtype]!);
          });
          const again = outcome(OPERATORS, each, dtype, 'cuda:0');
          outcome(OPERATORS, each, dtype, 'cuda:0').forEach((actual, i) => {
            expect(distance(actual, again[i]!), `result ${i} again`).toBe(0);
          });
        });
      }),
      { numRuns: cases(20) },
    );
  });
});

test('without rows there is nothing to do', () => {
  scope(() => {
    const none = { rows: 0, channels: 4, heads: 2, groups: 1, gap: 0, adds: true };
    for (const result of outcome(OPERATORS, none, 'float32', 'cpu')) expect(result.numel).toBe(0);
  });
});

test.each<readonly [string, (draw: ReturnType<typeof drawer>) => unknown, RegExp]>([
  ['weights', (draw) => draw([2, 4]).addRmsNorm_(null, draw([3]), EPS), /as many weights/],
  ['rows', (draw) => draw([2, 4]).addRmsNorm_(draw([3, 4]), draw([4]), EPS), /one shape/],
  [
    'scales',
    (draw) => draw([2, 4]).rmsNormBackward_(draw([2, 4]), draw([4]), draw([3, 1]), null),
    /as many scales/,
  ],
  ['odd heads', (draw) => draw([2, 3, 5]).rotary_(draw([2, 5]), draw([2, 5]), 1), /even head/],
  ['positions', (draw) => draw([2, 3, 4]).rotary_(draw([3, 4]), draw([3, 4]), 1), /2 positions/],
  ['heads', (draw) => draw([2, 3, 4]).rotary_(draw([2, 4]), draw([2, 4]), 4), /4 of 3 heads/],
  ['gate and up', (draw) => draw([2, 3]).swiglu(), /side by side/],
  [
    'the gradient',
    (draw) => {
      draw([2, 4]).swigluBackward_(draw([2, 4]));
    },
    /half as many/,
  ],
])('%s that do not fit are refused', (_, call, message) => {
  for (const device of ['cpu', 'meta'] as const) {
    scope(() => {
      expect(() => call(drawer(1, 'float32', device))).toThrow(message);
    });
  }
});

test('none of them has a gradient of its own, and says so', () => {
  scope(() => {
    const x = randn([2, 4]).requiresGrad_();
    expect(() => grad([x.swiglu().sum(null)], [x])).toThrow(/not implemented/);
  });
});
