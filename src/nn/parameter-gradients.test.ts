import { expect, test } from 'vitest';
import { empty, full, randn, scope, type Tensor, zeros } from '../torch/index.js';
import { type GradientPlace, ParameterGradients } from './parameter-gradients.js';
import { expectClose } from './testing.js';

const parameters = (rows: readonly number[]): Tensor[] =>
  rows.map((count) => zeros([count, 3], { dtype: 'float64' }).requiresGrad_());
const random = (...shape: number[]): Tensor => randn(shape, { dtype: 'float64' });
const product = (a: Tensor, b: Tensor): Tensor => a.transpose(0, 1).matmul(b);

test('gradients without a place are new tensors, each its own rows; what does not train has none', () => {
  scope(() => {
    const [first, second, frozen] = parameters([2, 4, 1]) as [Tensor, Tensor, Tensor];
    frozen.requiresGrad_(false);
    const [a, b] = [random(5, 7), random(5, 3)];
    const whole = product(a, b);
    const gradients = new ParameterGradients();
    gradients.addProduct([first, frozen, second], a, b);
    gradients.add(frozen, whole);
    expect([...gradients.apart.keys()]).toEqual([first, second]);
    expectClose(gradients.apart.get(first)!, whole.narrow(0, 0, 2), 1e-12);
    expectClose(gradients.apart.get(second)!, whole.narrow(0, 3, 4), 1e-12);
  });
});

test('a parameter that is used twice gets the sum', () => {
  scope(() => {
    const [weight, other] = parameters([2, 4]) as [Tensor, Tensor];
    const [a, b, c, d] = [random(5, 6), random(5, 3), random(8, 2), random(8, 3)];
    const gradients = new ParameterGradients();
    gradients.addProduct([weight, other], a, b);
    gradients.addProduct([weight], c, d);
    gradients.add(weight, full([2, 3], 1, { dtype: 'float64' }));
    const expected = product(a, b).narrow(0, 0, 2).add(product(c, d)).add(1);
    expectClose(gradients.apart.get(weight)!, expected, 1e-12);
  });
});

test('a place is written to, whatever was there, and then added to', () => {
  scope(() => {
    const both = parameters([2, 4]);
    const into = empty([6, 3], { dtype: 'float64' }).fill_(NaN);
    let holds = false;
    const places = (asked: readonly Tensor[]): GradientPlace | null => {
      if (asked.length < 2) return null;
      const place = { into, holds };
      holds = true;
      return place;
    };
    const [a, b, c, d] = [random(5, 6), random(5, 3), random(8, 6), random(8, 3)];
    const gradients = new ParameterGradients(places);
    gradients.addProduct(both, a, b);
    expectClose(into, product(a, b), 1e-12);
    gradients.addProduct(both, c, d);
    expectClose(into, product(a, b).add(product(c, d)), 1e-12);
    expect(gradients.apart.size).toBe(0);
    gradients.addProduct([both[0]!], a.narrow(1, 0, 2), b);
    expect([...gradients.apart.keys()]).toEqual([both[0]]);
  });
});
