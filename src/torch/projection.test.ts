/** Products of layers that share their input against what they stand for, written out. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import {
  cat,
  cudaAvailable,
  full,
  linear,
  lowRankBackward,
  lowRankGradients,
  project,
  projectBackward,
  RandomGenerator,
  randn,
  scope,
  sideBySide,
  type Device,
  type DType,
  type Tensor,
} from './index.js';

interface Case {
  readonly rows: number;
  readonly channels: number;
  readonly layers: readonly { outs: number; rank: number; bias: boolean; gap: number }[];
  readonly adjacent: boolean;
  readonly seed: number;
}

const layer = fc.record({
  outs: fc.integer({ min: 1, max: 5 }),
  rank: fc.integer({ min: 1, max: 3 }),
  bias: fc.boolean(),
  /** Columns before its own that no adapter adds to. */
  gap: fc.integer({ min: 0, max: 2 }),
});

const arbitrary: fc.Arbitrary<Case> = fc.record({
  rows: fc.integer({ min: 1, max: 6 }),
  channels: fc.integer({ min: 1, max: 7 }),
  layers: fc.array(layer, { minLength: 1, maxLength: 4 }),
  adjacent: fc.boolean(),
  seed: fc.nat(1000),
});

/** Random tensors in float64. */
function source(seed: number): (...shape: number[]) => Tensor {
  const generator = RandomGenerator.create(seed);
  return (...shape) => randn(shape, { generator, dtype: 'float64' });
}

/** Matrices with so many rows, in one piece of memory or in their own. */
function matrices(whole: Tensor, rows: readonly number[], adjacent: boolean): Tensor[] {
  const parts = whole.splitWithSizes(rows);
  return adjacent ? parts : parts.map((each) => each.clone());
}

const close = (actual: Tensor, expected: Tensor, tolerance = 1e-12): void => {
  expect(actual.shape).toEqual(expected.shape);
  const distance = actual.to('float64').sub(expected.to('float64')).abs().max().item();
  expect(distance).toBeLessThanOrEqual(tolerance);
};

const each = (run: (given: Case) => void): void => {
  fc.assert(
    fc.property(arbitrary, (given) => {
      scope(() => {
        run(given);
      });
    }),
    { numRuns: cases(40) },
  );
};

test('layers side by side are the layers one by one, with any of the biases', () => {
  each(({ rows, channels, layers, adjacent, seed }) => {
    const random = source(seed);
    const outs = layers.map((one) => one.outs);
    const total = outs.reduce((sum, one) => sum + one, 0);
    const weights = matrices(random(total, channels), outs, adjacent);
    const biases = layers.map(({ outs: size, bias }) => (bias ? random(size) : null));
    const [x, g, before] = [random(rows, channels), random(rows, total), random(rows, total)];
    const expected = cat(
      weights.map((weight, i) => linear(x, weight, biases[i])),
      1,
    );
    close(project(x, weights, biases), expected);
    close(project(x.unsqueeze(0), weights, biases), expected.unsqueeze(0));
    close(before.clone().projectAdd_(x, weights, biases), before.add(expected));
    const gradient = g.matmul(cat(weights));
    close(projectBackward(g, weights), gradient);
    const added = random(rows, channels);
    close(added.clone().projectBackwardAdd_(g, weights), added.add(gradient));
    const one = sideBySide(weights);
    expect(one).toHaveLength(adjacent || weights.length === 1 ? 1 : 0);
    for (const whole of one) close(whole, cat(weights), 0);
  });
});

test('adapters add to the columns that are theirs, and get the gradients of these', () => {
  each(({ rows, layers, seed }) => {
    const random = source(seed);
    let end = 0;
    const starts = layers.map(({ outs, gap }) => (end += gap + outs) - outs);
    const b = layers.map(({ outs, rank }) => random(outs, rank));
    const scaling = layers.map((_, i) => 0.5 + i);
    const ranks = layers.map(({ rank }) => rank);
    const z = random(
      rows,
      ranks.reduce((sum, rank) => sum + rank, 0),
    );
    const [y, g] = [random(rows, end), random(rows, end)];
    const zs = z.splitWithSizes(ranks, 1);
    const gs = layers.map(({ outs }, i) => g.narrow(1, starts[i]!, outs));
    const expected = y.clone();
    layers.forEach(({ outs }, i) => {
      const own = expected.narrow(1, starts[i]!, outs);
      own.add_(zs[i]!.matmul(b[i]!.transpose(0, 1)), { alpha: scaling[i]! });
    });
    close(y.clone().addLowRank_(z, b, starts, scaling), expected);
    const dz = gs.map((own, i) => own.matmul(b[i]!).mul(scaling[i]!));
    close(lowRankBackward(g, b, starts, scaling), cat(dz, 1));
    lowRankGradients(g, z, b, starts, scaling).forEach((actual, i) => {
      close(actual, gs[i]!.transpose(0, 1).matmul(zs[i]!).mul(scaling[i]!));
    });
  });
});

describe.each<Device>(cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'])('on %s', (device) => {
  test.each<[DType, DType]>([
    ['float64', 'float64'],
    ['float32', 'bfloat16'],
    ['float32', 'float16'],
    ['bfloat16', 'bfloat16'],
    ['bfloat16', 'float32'],
  ])('sums in %s of products in %s: written whatever was there, and added', (sums, factors) => {
    scope(() => {
      const random = source(3);
      const [a, b] = [random(40, 16), random(40, 24)].map((t) => t.to({ dtype: factors, device }));
      const [x, y] = [a!, b!].map((t) => t.to({ device: 'cpu', dtype: 'float64' }));
      const expected = x!.transpose(0, 1).matmul(y!);
      const whole = full([20, 24], NaN, { dtype: sums, device });
      const into = whole.narrow(0, 2, 16);
      const host = (): Tensor => into.to({ device: 'cpu', dtype: 'float64' });
      const half = [sums, factors].some((dtype) => dtype.includes('16'));
      const tolerance = sums === 'float64' ? 1e-12 : half ? 0.2 : 1e-4;
      expect(into.productInto_(a!, b!, false)).toBe(into);
      close(host(), expected, tolerance);
      into.productInto_(a!, b!, true);
      close(host(), expected.mul(2), 2 * tolerance);
      expect(whole.narrow(0, 0, 2).isfinite().to('float32').max().item()).toBe(0);
      expect(whole.narrow(0, 18, 2).isfinite().to('float32').max().item()).toBe(0);
    });
  });
});

test('what does not fit is refused', () => {
  scope(() => {
    const random = source(1);
    const [x, weight] = [random(2, 3), random(4, 3)];
    expect(() => project(x, [], [])).toThrow(/nothing/);
    expect(() => project(x, [weight], [])).toThrow(/0 biases for 1 weights/);
    expect(() => x.addLowRank_(random(2, 1), [random(4, 1)], [0], [1])).toThrow(/does not fit/);
    expect(() => x.addLowRank_(random(2, 1), [random(2, 1)], [0, 1], [1])).toThrow(/2 starts/);
    expect(() => lowRankBackward(x, [random(2, 1)], [-1], [1])).toThrow(/does not fit/);
    expect(() => random(4).productInto_(x, weight, false)).toThrow();
  });
});
