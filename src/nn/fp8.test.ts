/** Layers whose weights are in fp8: against what their codes stand for, alone and side by side, with adapters, on meta. */

import { describe, expect, test } from 'vitest';

import {
  type DType,
  empty,
  grad,
  noGrad,
  RandomGenerator,
  randn,
  scope,
  type Tensor,
} from '../torch/index.js';
import { Fp8Form, Fp8Weight } from './fp8.js';
import { Linear } from './linear.js';
import { Projection } from './projection.js';
import { weightName } from './quantised-form.js';
import { expectClose } from './testing.js';

const drawn = (...shape: number[]): Tensor =>
  randn(shape, { generator: RandomGenerator.create(shape.length + shape[0]!) });

function inFp8(weight: Tensor, { bias, dtype = 'float32' }: { bias?: Tensor; dtype?: DType } = {}) {
  const [rows, columns] = weight.shape as [number, number];
  const layer = new Linear(columns, rows, { bias: bias !== undefined, dtype });
  const form = new Fp8Form();
  layer.quantise(form);
  layer.loadParts(form.quantise(weight));
  if (bias !== undefined) layer.load('bias', bias);
  return layer;
}

const bits = (x: Tensor): Uint8Array => x.detach().contiguous().toBytes();

/** Root mean square of the difference, as a share of that of what is expected. */
function distance(actual: Tensor, expected: Tensor): number {
  const [a, e] = [actual.detach().to('float64'), expected.detach().to('float64')];
  return Math.sqrt(a.sub(e).square().sum(null).item() / e.square().sum(null).item());
}

describe('a layer in fp8', () => {
  test('holds codes and scales, in a byte a weight and four a row', () => {
    scope(() => {
      const weight = drawn(6, 65);
      const layer = inFp8(weight, { dtype: 'bfloat16', bias: drawn(6) });
      const names = [...layer.namedParameters('p').keys()];
      expect(names).toEqual(['p.bias', 'p.weight', 'p.weight_scale']);
      expect(names.slice(1).map(weightName)).toEqual(['p.weight', 'p.weight']);
      const { base } = layer;
      expect([base.shape, base.dtype, base.bytes]).toEqual([[6, 65], 'bfloat16', 6 * 65 + 6 * 4]);
      expect(base).toBeInstanceOf(Fp8Weight);
      // Half a unit in the last of 4 bits.
      const dense = base.dense().to('float32');
      expect(
        dense
          .sub(weight)
          .abs()
          .div(weight.abs().amax([1], true))
          .max()
          .item(),
      ).toBeLessThan(0.04);
      layer.makeDense();
      expect(layer.weight.shape).toEqual([6, 65]);
      layer.dispose();
    });
  });

  test.each([
    [64, 48],
    [65, 7],
    [1, 1],
  ])('multiplies and differentiates as what it stands for: %i to %i', (inputs, outputs) => {
    scope(() => {
      const layer = inFp8(drawn(outputs, inputs), { bias: drawn(outputs) });
      const dense = layer.base.dense();
      const [x, y] = [drawn(5, inputs).requiresGrad_(), drawn(5, inputs).requiresGrad_()];
      const upstream = drawn(5, outputs);
      const product = layer.forward(x);
      const expected = y.matmul(dense.transpose(0, 1)).add(layer.bias!);
      // The input, and the gradient, are rounded to 4 bits each.
      expect(distance(product, expected)).toBeLessThan(0.06);
      const [dx] = grad([product], [x], [upstream]);
      expect(distance(dx!, grad([expected], [y], [upstream])[0]!)).toBeLessThan(0.06);
      expect(bits(layer.base.inputProduct(upstream))).toEqual(bits(dx!));
      layer.dispose();
    });
  });

  test.each([false, true])('an adapter beside it is merged into what it stands for', (dora) => {
    scope(() => {
      const layer = inFp8(drawn(6, 64));
      const plain = new Linear(64, 6, { bias: false });
      plain.load('weight', layer.base.dense());
      for (const each of [layer, plain]) {
        const adapter = each.attachAdapter({ rank: 2, alpha: 4, dora });
        adapter.load('lora_A.weight', drawn(2, 64));
        adapter.load('lora_B.weight', drawn(6, 2));
        if (dora) adapter.load('lora_magnitude_vector', drawn(6));
      }
      const x = drawn(3, 64);
      expect(distance(layer.forward(x), plain.forward(x))).toBeLessThan(0.06);
      for (const each of [layer, plain]) each.mergeAdapter();
      expectClose(layer.weight, plain.weight, 1e-6);
      layer.dispose();
      plain.dispose();
    });
  });

  test.each([true, false])('several that share their input are one product: %s', (together) => {
    scope(() => {
      const layers = [5, 3].map((rows) => inFp8(drawn(rows, 65)));
      const projection = new Projection(layers);
      if (together) {
        projection.laySideBySide();
        const parts = (i: number): number =>
          new Set(layers.map(({ base }) => base.rowParts![i]!.storageId())).size;
        expect([parts(0), parts(1)]).toEqual([1, 1]);
      }
      expect([projection.trains, projection.readsFp8]).toEqual([false, true]);
      const [x, g] = [drawn(4, 65), drawn(4, 8)];
      noGrad(() => {
        const { output } = projection.forward(x, [null, null]);
        expectClose(output.narrow(1, 0, 5), layers[0]!.forward(x), 1e-6);
        expectClose(output.narrow(1, 5, 3), layers[1]!.forward(x), 1e-6);
        const [first, second] = projection.frozen(x.view([2, 2, 65]));
        expectClose(first!.flatten(0, 1), output.narrow(1, 0, 5), 1e-6);
        expectClose(second!.flatten(0, 1), output.narrow(1, 5, 3), 1e-6);
        const rows = x.quantiseRowsFp8(null, 'float8_e4m3fn');
        const same = projection.forward(x, [null, null], { rows }).output;
        expect(bits(same)).toEqual(bits(output));
        // The gradients of both are quantised with one scale a row.
        const input = projection.backward(g, [null, null]).input(() => x);
        const dense = layers.map(({ base }, i) =>
          (i === 0 ? g.narrow(1, 0, 5) : g.narrow(1, 5, 3)).matmul(base.dense()),
        );
        expect(distance(input, dense[0]!.add(dense[1]!))).toBeLessThan(0.06);
      });
      for (const layer of layers) layer.dispose();
    });
  });

  test('beside one that is not, each multiplies by itself', () => {
    scope(() => {
      const quantised = inFp8(drawn(5, 16));
      const dense = new Linear(16, 3, { bias: false });
      dense.load('weight', drawn(3, 16));
      const projection = new Projection([quantised, dense]);
      projection.laySideBySide();
      const x = drawn(4, 16);
      noGrad(() => {
        const { output } = projection.forward(x, [null, null]);
        expectClose(output.narrow(1, 5, 3), dense.forward(x), 1e-6);
        expect(bits(output.narrow(1, 0, 5))).toEqual(bits(quantised.forward(x)));
      });
      quantised.dispose();
      dense.dispose();
    });
  });

  test('runs on meta', () => {
    scope(() => {
      const layer = new Linear(64, 6, { bias: false });
      layer.quantise(new Fp8Form());
      const x = empty([3, 64], { device: 'meta' }).requiresGrad_();
      const y = layer.forward(x);
      expect([y.shape, grad([y], [x], [y])[0]!.shape]).toEqual([
        [3, 6],
        [3, 64],
      ]);
      layer.dispose();
    });
  });
});
