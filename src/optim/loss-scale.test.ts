import { expect, test } from 'vitest';
import { full, scope, type Tensor } from '../torch/index.js';
import { LossScale } from './loss-scale.js';

const scalar = (value: number): Tensor => full([], value, { dtype: 'float32' });

test('the loss scale doubles after a window, halves when the hysteresis is used up, and has a minimum', () => {
  scope(() => {
    const scale = new LossScale('cpu', { initial: 8, window: 3, hysteresis: 2, minimum: 4 });
    const after = (...outcomes: number[]) => {
      for (const outcome of outcomes) scale.update(scalar(outcome));
      return scale.scale.item();
    };
    expect(after(0, 0)).toBe(8);
    expect(after(0)).toBe(16);
    expect(after(1)).toBe(16);
    expect(after(0, 1)).toBe(16); // a finite update restores the hysteresis
    expect(after(1)).toBe(8);
    expect(after(1, 1)).toBe(4);
    expect(after(1, 1, 1, 1)).toBe(4);
    scale.dispose();
  });
});
