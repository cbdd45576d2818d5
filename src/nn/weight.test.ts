import { expect, test } from 'vitest';
import { linear, randn, scope, tensor, type Tensor } from '../torch/index.js';
import { Linear } from './linear.js';
import { LoraAdapter, type LoraOptions } from './lora.js';
import { expectClose } from './testing.js';
import { DenseWeight, type Weight } from './weight.js';

test('a dense weight reads its parameter at every call', () => {
  scope(() => {
    const layer = new Linear(3, 2, { bias: false });
    layer.load('weight', tensor([1, 2, 3, 4, 5, 6]).view([2, 3]));
    const x = tensor([1, 1, 1]).view([1, 3]);
    expect(layer.base.product(x).toArray()).toEqual([[6, 15]]);
    layer.load('weight', tensor([1, 0, 0, 0, 1, 0]).view([2, 3]));
    expect(layer.base.product(x, tensor([10, 20])).toArray()).toEqual([[11, 21]]);
    expect(layer.base.inputProduct(tensor([[1, 2]])).toArray()).toEqual(
      tensor([[1, 2]])
        .matmul(layer.weight)
        .toArray(),
    );
    expect(layer.base.dense()).toBe(layer.weight);
    expect([layer.base.shape, layer.base.dtype, layer.base.bytes]).toEqual([[2, 3], 'float32', 24]);
    layer.dispose();
  });
});

/** Whole numbers, and a factor for all of them. */
class ScaledWeight implements Weight {
  readonly dtype = 'float32';

  constructor(
    private readonly codes: Tensor,
    private readonly scale: number,
  ) {}

  get shape(): readonly number[] {
    return this.codes.shape;
  }

  get bytes(): number {
    return this.codes.bytes;
  }

  product(x: Tensor, bias?: Tensor): Tensor {
    return linear(x, this.dense(), bias);
  }

  inputProduct(g: Tensor): Tensor {
    return g.matmul(this.dense());
  }

  dense(): Tensor {
    return this.codes.to('float32').mul(this.scale);
  }
}

test.each<LoraOptions>([
  { rank: 2, alpha: 4 },
  { rank: 2, alpha: 4, dora: true },
])('an adapter asks nothing else of the layer below: %o', (options) => {
  scope(() => {
    const codes = tensor([-3, 2, 7, 1, -5, 4], { dtype: 'int8' }).view([2, 3]);
    const scaled = new ScaledWeight(codes, 0.25);
    const values = scaled.dense();
    const [a, b, x] = [randn([2, 3]), randn([2, 2]), randn([4, 3])];
    const adapters = [scaled, new DenseWeight(() => values)].map((base) => {
      const host = { inFeatures: 3, outFeatures: 2, base, bias: undefined };
      const adapter = new LoraAdapter(host, options);
      adapter.load('lora_A.weight', a.clone());
      adapter.load('lora_B.weight', b.clone());
      if (options.dora === true) adapter.load('lora_magnitude_vector', tensor([1, 2]));
      return adapter;
    });
    const [quantised, dense] = adapters as [LoraAdapter, LoraAdapter];
    expectClose(quantised.forward(x), dense.forward(x), 0);
    expectClose(quantised.merged(), dense.merged(), 0);
    for (const adapter of adapters) adapter.dispose();
  });
});
