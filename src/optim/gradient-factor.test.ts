import { expect, test } from 'vitest';
import { full, scope, tensor, type Tensor } from '../torch/index.js';
import { gradientFactor, squaredNorms } from './gradient-factor.js';

const scalar = (value: number): Tensor => full([], value, { dtype: 'float32' });

const squaresOf = (tensors: readonly Tensor[]): Tensor => {
  const named = new Map(tensors.map((each, i) => [`p${i}`, each] as const));
  return squaredNorms([...named.keys()], named, scalar(0)).sum(null);
};

test('one factor: division by tokens, unscaling and clipping', () => {
  scope(() => {
    const sums = [tensor([3, 0]), tensor([[4]])];
    const squares = squaresOf(sums);
    expect(squares.item()).toBeCloseTo(25, 5);
    const free = gradientFactor(squares, scalar(10), scalar(2), null);
    expect(free.norm.item()).toBeCloseTo(0.25, 6);
    expect(free.divisor.item()).toBe(20);
    const clipped = gradientFactor(squares, scalar(10), scalar(2), 0.1);
    expect(5 / clipped.divisor.item()).toBeCloseTo(0.1, 5);
    expect(clipped.foundInf.item()).toBe(0);
  });
});

test('anything not finite shows in the flag', () => {
  scope(() => {
    for (const bad of [NaN, Infinity, -Infinity]) {
      const squares = squaresOf([tensor([1, bad]), tensor([2])]);
      expect(gradientFactor(squares, scalar(1), scalar(1), 1).foundInf.item()).toBe(1);
    }
    const none = gradientFactor(squaresOf([]), scalar(0), scalar(1), 1);
    expect(none.foundInf.item()).toBe(0);
    expect(none.norm.item()).toBe(0);
  });
});

test('a tensor of which there is no piece counts 0', () => {
  scope(() => {
    const squares = squaredNorms(['a', 'b', 'c'], new Map([['b', tensor([1, 2])]]), scalar(0));
    expect(squares.toArray()).toEqual([0, expect.closeTo(5, 5), 0]);
  });
});
