/** The low-rank pieces of LoRA against what they stand for, written out; kernels against composites on the GPU where there is one. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import { operators } from './generate/testing.js';
import {
  cat,
  cudaAvailable,
  droppedGradients,
  droppedProduct,
  grad,
  RandomGenerator,
  randn,
  scope,
  tensor,
  zeros,
  type Device,
  type DType,
  type Tensor,
} from './index.js';

const composites = operators(
  { operator: 'patina::dropped_product_composite' },
  { operator: 'patina::dropped_gradients_composite' },
  { operator: 'patina::add_dropped_composite_' },
  { operator: 'patina::swiglu_low_rank_composite' },
  { operator: 'patina::swiglu_low_rank_backward_composite_' },
) as {
  droppedProductComposite: typeof droppedProduct;
  droppedGradientsComposite: typeof droppedGradients;
  addDroppedComposite_: (x: Tensor, ...rest: Parameters<Tensor['addDropped_']>) => Tensor;
  swigluLowRankComposite: (x: Tensor, ...rest: Parameters<Tensor['swigluLowRank']>) => Tensor;
  swigluLowRankBackwardComposite_: (
    x: Tensor,
    ...rest: Parameters<Tensor['swigluLowRankBackward_']>
  ) => void;
};

interface Calls {
  product: typeof droppedProduct;
  gradients: typeof droppedGradients;
  add: typeof composites.addDroppedComposite_;
  gate: typeof composites.swigluLowRankComposite;
  gateBackward: typeof composites.swigluLowRankBackwardComposite_;
}

const OPERATORS: Calls = {
  product: droppedProduct,
  gradients: droppedGradients,
  add: (x, ...rest) => x.addDropped_(...rest),
  gate: (x, ...rest) => x.swigluLowRank(...rest),
  gateBackward: (x, ...rest) => {
    x.swigluLowRankBackward_(...rest);
  },
};

const COMPOSITES: Calls = {
  product: composites.droppedProductComposite,
  gradients: composites.droppedGradientsComposite,
  add: composites.addDroppedComposite_,
  gate: composites.swigluLowRankComposite,
  gateBackward: composites.swigluLowRankBackwardComposite_,
};

/** By dropout and products of their own. */
const WRITTEN_OUT: Calls = {
  product: (x, a, p, records, indices, key, layers) =>
    cat(
      a.map((each, i) =>
        x.dropout(p, records, indices, key, layers[i]!).matmul(each.transpose(0, 1)),
      ),
      1,
    ),
  gradients: (dz, x, ranks, p, records, indices, key, layers) =>
    cat(
      dz
        .splitWithSizes(ranks, 1)
        .map((each, i) =>
          each.transpose(0, 1).matmul(x.dropout(p, records, indices, key, layers[i]!)),
        ),
    ),
  add: (x, dz, a, p, records, indices, key, layers) => {
    const parts = dz.splitWithSizes(
      a.map(({ shape }) => shape[0]!),
      1,
    );
    parts.forEach((each, i) =>
      x.add_(each.matmul(a[i]!).dropout(p, records, indices, key, layers[i]!)),
    );
    return x;
  },
  gate: (both, zGate, zUp, bGate, bUp, scaleGate, scaleUp) => {
    const F = bGate.shape[0]!;
    const gate = both.narrow(1, 0, F).add(zGate.matmul(bGate.transpose(0, 1)).mul(scaleGate));
    return gate.silu().mul(both.narrow(1, F, F).add(zUp.matmul(bUp.transpose(0, 1)).mul(scaleUp)));
  },
  gateBackward: (both, g, zGate, zUp, bGate, bUp, scaleGate, scaleUp, dz, a) => {
    both.add_(
      cat(
        [
          zGate.matmul(bGate.transpose(0, 1)).mul(scaleGate),
          zUp.matmul(bUp.transpose(0, 1)).mul(scaleUp),
        ],
        1,
      ),
    );
    if (dz !== null) g.add_(dz.matmul(a!));
    both.swigluBackward_(g);
  },
};

interface Sizes {
  readonly records: readonly number[];
  readonly channels: number;
  readonly ranks: readonly number[];
  readonly gap: number;
  readonly p: number;
  readonly hasDown: boolean;
}

/** What all operators leave of the same numbers, by name. */
function outcome(
  calls: Calls,
  { records, channels, ranks, gap, p, hasDown }: Sizes,
  dtype: DType,
  device: Device,
): Map<string, Tensor> {
  const generator = RandomGenerator.create(9);
  const draw = (shape: readonly [number, number], size = 1, extra = 0): Tensor =>
    randn([shape[0], shape[1] + extra], { generator })
      .mul(size)
      .to(dtype)
      .to(device)
      .narrow(1, 0, shape[1]);
  const whole = (values: number[]): Tensor => tensor(values, { dtype: 'int64' }).to(device);
  const rows = records.reduce((sum, each) => sum + each, 0);
  const all = ranks.reduce((sum, each) => sum + each, 0);
  const drops = [
    p,
    whole(records.flatMap((length, i) => Array<number>(length).fill(i))),
    whole(records.flatMap((length) => Array.from({ length }, (_, i) => i))),
    [3, 4],
    ranks.map((_, i) => 5 + i),
  ] as const;
  const [x, dz] = [draw([rows, channels], 1, gap), draw([rows, all], 1, gap)];
  const a = ranks.map((rank) => draw([rank, channels], channels ** -0.5));
  const added = draw([rows, channels], 1, gap);
  const results = new Map([
    ['z', calls.product(x, a, ...drops)],
    ['dA', calls.gradients(dz, x, ranks, ...drops)],
    ['x', calls.add(added, dz, a, ...drops)],
  ]);
  const [rGate, rUp] = [ranks[0]!, ranks.at(-1)!];
  const both = draw([rows, 2 * channels], 1, gap);
  const gated = [
    draw([rows, rGate], 1, gap),
    draw([rows, rUp], 1, gap),
    draw([channels, rGate], 0.2),
    draw([channels, rUp], 0.2),
    0.5,
    2,
  ] as const;
  results.set('p', calls.gate(both, ...gated));
  const g = draw([rows, channels], 1, gap);
  const down = hasDown ? ([draw([rows, rGate]), draw([rGate, channels], 0.2)] as const) : null;
  calls.gateBackward(both, g, ...gated, down?.[0] ?? null, down?.[1] ?? null);
  generator.dispose();
  return results.set('gate and up', both).set('g', g);
}

/** Largest difference, as a share of the largest magnitude. */
function distance(actual: Tensor, expected: Tensor): number {
  expect(actual.shape).toEqual(expected.shape);
  const [a, e] = [actual.to('float64'), expected.to('float64')];
  return a.sub(e).abs().max().item() / (e.abs().max().item() + 1e-30);
}

const sizes = (channels: fc.Arbitrary<number>, rank: fc.Arbitrary<number>): fc.Arbitrary<Sizes> =>
  fc.record({
    records: fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1, maxLength: 4 }),
    channels,
    ranks: fc.array(rank, { minLength: 1, maxLength: 3 }),
    gap: fc.constantFrom(0, 8),
    p: fc.constantFrom(0.05, 0.5),
    hasDown: fc.boolean(),
  });

test.each([
  ['float64', 1e-12],
  ['float32', 1e-5],
  ['bfloat16', 0.03],
] as const)('what is written out, in %s', (dtype, tolerance) => {
  fc.assert(
    fc.property(sizes(fc.integer({ min: 1, max: 20 }), fc.integer({ min: 1, max: 5 })), (each) => {
      scope(() => {
        const expected = outcome(WRITTEN_OUT, each, dtype, 'cpu');
        for (const [name, actual] of outcome(OPERATORS, each, dtype, 'cpu')) {
          expect(actual.dtype).toBe(dtype);
          expect(distance(actual, expected.get(name)!), name).toBeLessThan(tolerance);
        }
      });
    }),
    { numRuns: cases(20) },
  );
});

/** Makes tensors of a shape on the device of the call. */
type Make = (shape: readonly number[], dtype?: DType) => Tensor;

/** Two rows of four channels in one record, and how they are dropped. */
const drops = (make: Make, layers = [0], p = 0.5, places = 2) =>
  [p, make([places], 'int64'), make([2], 'int64'), [1, 2], layers] as const;
const lowGate = (make: Make) =>
  [make([2, 1]), make([2, 3]), make([4, 1]), make([4, 3]), 1, 1] as const;

const REFUSED: readonly (readonly [string, (make: Make) => unknown, RegExp])[] = [
  [
    'channels',
    (make) => droppedProduct(make([2, 4]), [make([1, 3])], ...drops(make)),
    /4 channels of its input/,
  ],
  [
    'dtypes',
    (make) => droppedProduct(make([2, 4]), [make([1, 4], 'float64')], ...drops(make)),
    /as what it belongs to/,
  ],
  [
    'layers',
    (make) => droppedProduct(make([2, 4]), [make([1, 4])], ...drops(make, [0, 1])),
    /2 layers for 1 adapters/,
  ],
  [
    'probabilities',
    (make) => droppedProduct(make([2, 4]), [make([1, 4])], ...drops(make, [0], 1)),
    /from 0 to below 1, not 1/,
  ],
  [
    'places',
    (make) => droppedProduct(make([2, 4]), [make([1, 4])], ...drops(make, [0], 0.5, 3)),
    /3 records for 2 indices/,
  ],
  [
    'ranks of dz',
    (make) => droppedGradients(make([2, 2]), make([2, 4]), [3], ...drops(make)),
    /2 rows and 3 ranks/,
  ],
  [
    'rows of dz',
    (make) => droppedGradients(make([1, 3]), make([2, 4]), [3], ...drops(make)),
    /2 rows and 3 ranks/,
  ],
  [
    'ranks below 1',
    (make) => droppedGradients(make([2, 3]), make([2, 4]), [4, -1], ...drops(make, [0, 1])),
    /at least 1, not -1/,
  ],
  [
    'layers of gradients',
    (make) => droppedGradients(make([2, 3]), make([2, 4]), [1, 2], ...drops(make)),
    /1 layers for 2 adapters/,
  ],
  [
    'dz of what is added',
    (make) => make([2, 4]).addDropped_(make([2, 2]), [make([1, 4])], ...drops(make)),
    /2 rows and 1 ranks/,
  ],
  [
    'features',
    (make) => make([2, 6]).swigluLowRank(...lowGate(make)),
    /z \(rows, rank\) and B \(features, rank\)/,
  ],
  [
    'dtypes of gate and up',
    (make) => make([2, 8], 'float64').swigluLowRank(...lowGate(make)),
    /added to gate and up/,
  ],
  [
    'gradients of the product',
    (make) => {
      make([2, 8]).swigluLowRankBackward_(make([2, 8]), ...lowGate(make), null, null);
    },
    /has its features/,
  ],
  [
    'dz without A',
    (make) => {
      make([2, 8]).swigluLowRankBackward_(make([2, 4]), ...lowGate(make), make([2, 1]), null);
    },
    /belong together/,
  ],
  [
    'dz and A',
    (make) => {
      const [dz, a] = [make([2, 1]), make([2, 4])];
      make([2, 8]).swigluLowRankBackward_(make([2, 4]), ...lowGate(make), dz, a);
    },
    /give the gradient of the product/,
  ],
];

describe.each<Device>(['cpu', 'meta', ...(cudaAvailable() ? (['cuda:0'] as const) : [])])(
  'on %s',
  (device) => {
    test.each(REFUSED)('%s that do not fit are refused', (_, call, message) => {
      scope(() => {
        const make: Make = (shape, dtype = 'float32') => zeros(shape, { dtype, device });
        expect(() => call(make)).toThrow(message);
      });
    });
  },
);

test('without rows there is nothing to do', () => {
  scope(() => {
    const x = zeros([0, 4]);
    const none = zeros([0], { dtype: 'int64' });
    const how = [0.5, none, none, [1, 2], [0]] as const;
    expect(droppedProduct(x, [zeros([2, 4])], ...how).shape).toEqual([0, 2]);
    expect(droppedGradients(zeros([0, 2]), x, [2], ...how).toArray()).toEqual([
      [0, 0, 0, 0],
      [0, 0, 0, 0],
    ]);
    expect(x.addDropped_(zeros([0, 2]), [zeros([2, 4])], ...how).shape).toEqual([0, 4]);
  });
});

test('none of them has a gradient of its own, and says so', () => {
  scope(() => {
    const x = zeros([2, 4]).requiresGrad_();
    const make: Make = (shape, dtype = 'float32') => zeros(shape, { dtype });
    const z = droppedProduct(x, [zeros([1, 4])], ...drops(make));
    expect(() => grad([z.sum(null)], [x])).toThrow(/not implemented/);
  });
});

describe.runIf(cudaAvailable())('on a GPU', () => {
  const shapes = [
    sizes(fc.constantFrom(64, 192, 1024), fc.constantFrom(8, 16, 24, 32, 64)),
    // Which kernels do not take.
    sizes(fc.constantFrom(60, 96), fc.constantFrom(5, 16)),
  ];
  test.each([
    ['float16', 4e-3],
    ['bfloat16', 3e-2],
  ] as const)('kernels give what composites give, in %s', (dtype, tolerance) => {
    for (const shape of shapes) {
      fc.assert(
        fc.property(shape, (each) => {
          scope(() => {
            const expected = outcome(COMPOSITES, each, dtype, 'cuda:0');
            const again = outcome(OPERATORS, each, dtype, 'cuda:0');
            for (const [name, actual] of outcome(OPERATORS, each, dtype, 'cuda:0')) {
              expect(distance(actual, expected.get(name)!), name).toBeLessThan(tolerance);
              expect(distance(actual, again.get(name)!), `${name} again`).toBe(0);
            }
          });
        }),
        { numRuns: cases(20) },
      );
    }
  });

  test('many rows, over several blocks', () => {
    scope(() => {
      const large = {
        records: [700, 1, 830],
        channels: 256,
        ranks: [16, 16, 16],
        gap: 0,
        p: 0.1,
        hasDown: true,
      };
      const expected = outcome(COMPOSITES, large, 'bfloat16', 'cuda:0');
      for (const [name, actual] of outcome(OPERATORS, large, 'bfloat16', 'cuda:0')) {
        expect(distance(actual, expected.get(name)!), name).toBeLessThan(0.03);
      }
    });
  });
});
