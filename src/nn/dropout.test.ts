import { expect, test } from 'vitest';
import { empty, RandomGenerator, grad, ones, scope } from '../torch/index.js';
import { dropout } from './dropout.js';
import { expectClose } from './testing.js';

test('drops the given share and scales the rest, in both directions', () => {
  scope(() => {
    const generator = RandomGenerator.create(11);
    const x = ones([100, 100]).requiresGrad_();
    const y = dropout(x, 0.2, generator);
    const values = new Set(y.toTypedArray() as Float32Array);
    expect(values).toEqual(new Set([0, 1.25]));
    expect(y.mean(null).item()).toBeCloseTo(1, 1);
    expectClose(grad([y], [x], [ones([100, 100])])[0]!, y, 0);
    generator.dispose();
  });
});

test('the same seed draws the same mask, the next call another', () => {
  scope(() => {
    const generator = RandomGenerator.create(5);
    const x = ones([50], { dtype: 'bfloat16' });
    const [first, second] = [dropout(x, 0.5, generator), dropout(x, 0.5, generator)];
    generator.seed(5);
    expect(dropout(x, 0.5, generator).toArray()).toEqual(first.toArray());
    expect(second.toArray()).not.toEqual(first.toArray());
    expect(second.dtype).toBe('bfloat16');
    generator.dispose();
  });
});

test('is nothing without a generator or probability; runs on meta tensors', () => {
  scope(() => {
    const generator = RandomGenerator.create(5);
    const x = ones([3]);
    expect(dropout(x, 0.5)).toBe(x);
    expect(dropout(x, 0, generator)).toBe(x);
    expect(dropout(empty([2, 3], { device: 'meta' }), 0.5, generator).shape).toEqual([2, 3]);
    generator.dispose();
  });
});
