/** Random state: seeds give the same numbers, states come back. */

import { describe, expect, test } from 'vitest';
import { cudaAvailable, RandomGenerator, ones, randn, scope, zeros, type Device } from './index.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });
const devices: Device[] = cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'];

describe.each(devices)('generators on %s', (device) => {
  const draw = (generator: RandomGenerator): unknown =>
    scope(() => randn([5], { generator, device }).toArray());

  test('a seed gives the same numbers again', () => {
    using a = RandomGenerator.create(7, device);
    using b = RandomGenerator.create(7n, device);
    using other = RandomGenerator.create(8, device);
    const first = draw(a);
    expect(draw(b)).toEqual(first);
    expect(draw(other)).not.toEqual(first);
    expect(draw(a)).not.toEqual(first);
    expect(draw(a.seed(7))).toEqual(first);
  });

  test('a state comes back', () => {
    scope(() => {
      using generator = RandomGenerator.create(1, device);
      draw(generator);
      const state = generator.state();
      expect(state).toMatchObject({ dtype: 'uint8', device: 'cpu' });
      const next = [draw(generator), draw(generator)];
      generator.setState(state);
      expect([draw(generator), draw(generator)]).toEqual(next);
      using copy = RandomGenerator.create(0, device);
      copy.setState(state);
      expect(draw(copy)).toEqual(next[0]);
    });
  });

  test('the default one serves operators that are given none', () => {
    scope(() => {
      using standard = RandomGenerator.default(device);
      standard.seed(3);
      const first = randn([4], { device }).toArray();
      const even = ones([20], { device }).uniform_(0, 1).toArray();
      standard.seed(3);
      expect(randn([4], { device }).toArray()).toEqual(first);
      expect(ones([20], { device }).uniform_(0, 1).toArray()).toEqual(even);
    });
  });

  test('every operator that draws takes one', () => {
    const all = (): unknown =>
      scope(() => {
        using generator = RandomGenerator.create(11, device);
        return [
          randn([3], { generator, device }),
          zeros([3], { device }).normal_(0, 1, { generator }),
          zeros([3], { device }).uniform_(0, 1, { generator }),
          ones([9], { device }).multinomial(3, false, { generator }),
        ].map((t) => t.toArray());
      });
    expect(all()).toEqual(all());
  });
});

test('the same seed gives PyTorch’s numbers on the CPU', () => {
  scope(() => {
    using generator = RandomGenerator.create(0);
    // torch.manual_seed(0); torch.randn(4)
    expect(randn([4], { generator }).toArray()).toEqual([
      1.5409960746765137, -0.293428897857666, -2.1787893772125244, 0.5684312582015991,
    ]);
  });
});

test('meta tensors draw nothing but take a generator', () => {
  scope(() => {
    using generator = RandomGenerator.create(1, 'meta');
    expect(randn([2], { generator, device: 'meta' }).shape).toEqual([2]);
  });
});

test('seeds are taken modulo 2^64; what is no seed or state is refused', () => {
  scope(() => {
    using generator = RandomGenerator.create(-1);
    using same = RandomGenerator.create(2n ** 64n - 1n);
    expect(randn([2], { generator }).toArray()).toEqual(randn([2], { generator: same }).toArray());
    expect(() => generator.seed(1.5)).toThrow(code('E_ARGUMENT'));
    expect(() => generator.setState(ones([3]))).toThrow(/RNG|state|byte|uint8/i);
  });
});

test('use after dispose and disposing twice are errors', () => {
  const generator = RandomGenerator.create(1);
  generator.dispose();
  expect(() => generator.dispose()).toThrow(code('E_DISPOSED'));
  expect(() => generator.state()).toThrow(code('E_DISPOSED'));
  expect(() => randn([2], { generator })).toThrow(code('E_DISPOSED'));
  expect(() => randn([2], { generator: ones([1]) as never })).toThrow(code('E_ARGUMENT'));
});
