/** Cross entropy in place against libtorch's loss and its gradient by autograd; the kernel against the composite where there is a GPU. */

import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../base/testing.js';
import { operators } from './generate/testing.js';
import {
  cudaAvailable,
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

const { crossEntropyComposite_ } = operators({ operator: 'patina::cross_entropy_composite_' }) as {
  crossEntropyComposite_: (z: Tensor, targets: Tensor, factor: Tensor | null) => Tensor;
};

const sizes = fc.record({
  rows: fc.integer({ min: 1, max: 5 }),
  columns: fc.oneof(fc.integer({ min: 1, max: 40 }), fc.constantFrom(2048, 5003)),
  gap: fc.constantFrom(0, 3, 8),
  seed: fc.integer({ min: 0, max: 1000 }),
});

/** Rows of logits with other elements between them, and a target for each. */
function draw(
  { rows, columns, gap, seed }: { rows: number; columns: number; gap: number; seed: number },
  dtype: DType,
  device: Device,
): [logits: Tensor, targets: Tensor] {
  const generator = RandomGenerator.create(seed);
  const wide = randn([rows, columns + gap], { generator })
    .mul(3)
    .to(dtype)
    .to(device);
  generator.dispose();
  const targets = Array.from({ length: rows }, (_, i) => (seed + 7 * i) % columns);
  return [wide.narrow(1, 0, columns), tensor(targets, { dtype: 'int64' }).to(device)];
}

const largest = (x: Tensor): number => x.to('float64').abs().max().item();

test.each(['float32', 'float64'] as const)('loss and gradient of libtorch, in %s', (dtype) => {
  fc.assert(
    fc.property(sizes, (each) => {
      scope(() => {
        const [logits, targets] = draw(each, dtype, 'cpu');
        const leaf = logits.clone().requiresGrad_();
        const factor = tensor(0.25, { dtype });
        const expected = leaf.crossEntropyLoss(targets, null, 0);
        const gradient = grad([expected], [leaf], [factor.expand(expected.shape)])[0]!;
        const before = logits.clone();
        expect(logits.crossEntropy_(targets, null).toBytes()).toEqual(expected.detach().toBytes());
        expect(logits.toBytes()).toEqual(before.toBytes());
        expect(logits.crossEntropy_(targets, factor).toBytes()).toEqual(
          expected.detach().toBytes(),
        );
        expect(largest(logits.sub(gradient))).toBeLessThan(1e-7);
      });
    }),
    { numRuns: cases(20) },
  );
});

describe.runIf(cudaAvailable())('on a GPU', () => {
  test.each([
    ['float32', 3e-6],
    ['float16', 2e-3],
    ['bfloat16', 1e-2],
  ] as const)('the kernel gives what the composite gives, in %s', (dtype, tolerance) => {
    fc.assert(
      fc.property(sizes, (each) => {
        scope(() => {
          const device = 'cuda:0';
          const factor = tensor(0.25).to(device);
          const [own, targets] = draw(each, dtype, device);
          const [other] = draw(each, dtype, device);
          const [again] = draw(each, dtype, device);
          const losses = own.crossEntropy_(targets, factor);
          const expected = crossEntropyComposite_(other, targets, factor);
          expect(largest(losses.sub(expected))).toBeLessThan(1e-5 * (1 + largest(expected)));
          expect(largest(own.sub(other))).toBeLessThan(tolerance * (1e-6 + largest(other)));
          again.crossEntropy_(targets, factor);
          expect(again.toBytes()).toEqual(own.toBytes());
        });
      }),
      { numRuns: cases(20) },
    );
  });

  test('what is not finite, and targets that are no column, give NaN in their rows alone', () => {
    scope(() => {
      const device = 'cuda:0';
      const logits = tensor([
        [1, NaN, 2],
        [1, Infinity, 2],
        [-Infinity, 3, 1],
        [1, 2, 3],
      ])
        .to('bfloat16')
        .to(device);
      const targets = tensor([0, 0, 1, 3], { dtype: 'int64' }).to(device);
      const losses = logits.crossEntropy_(targets, tensor(1).to(device)).toArray() as number[];
      expect(losses.map(Number.isFinite)).toEqual([false, false, true, false]);
      expect(largest(logits.narrow(0, 2, 1))).toBeLessThan(1);
    });
  });
});

test.each<readonly [string, () => unknown, RegExp]>([
  ['rows', () => zeros([4]).crossEntropy_(zeros([4], { dtype: 'int64' }), null), /rows of logits/],
  ['targets', () => zeros([4, 3]).crossEntropy_(zeros([4]), null), /as int64/],
  [
    'one for each',
    () => zeros([4, 3]).crossEntropy_(zeros([3], { dtype: 'int64' }), null),
    /4 rows/,
  ],
  [
    'a number',
    () => zeros([1, 3]).crossEntropy_(zeros([1], { dtype: 'int64' }), zeros([2])),
    /one number/,
  ],
  [
    'columns',
    () => zeros([1, 3]).crossEntropy_(tensor([3], { dtype: 'int64' }), null),
    /out of bounds/,
  ],
])('takes %s', (_, run, message) => {
  scope(() => {
    expect(run).toThrow(message);
  });
});
