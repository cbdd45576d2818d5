import { describe, expect, test } from 'vitest';
import { empty, RandomGenerator, grad, noGrad, randn, scope, type Tensor } from '../torch/index.js';
import { Linear } from './linear.js';
import { expectCase, expectClose, layerCases, loadCase, masksOf } from './testing.js';

interface Settings {
  rank: number;
  alpha: number;
  rsLora: boolean;
  dora: boolean;
}

const CASES = layerCases<Settings>('lora');

/** The adapted layer of a stored case. */
function layerOf(layerCase: (typeof CASES)[number], dropout = 0): Linear {
  const [outFeatures, inFeatures] = layerCase.tensor('weight').shape as [number, number];
  const layer = new Linear(inFeatures, outFeatures, { bias: layerCase.name.endsWith('bias') });
  layer.attachAdapter({ ...layerCase.settings, dropout });
  loadCase(layer, layerCase);
  return layer;
}

describe.each(CASES)('$name', (layerCase) => {
  test('matches PEFT', () => {
    scope(() => {
      const layer = layerOf(layerCase);
      const x = layerCase.leaf('x');
      const inputs = [...layer.namedParameters(), ['x', x] as [string, Tensor]];
      expectCase(layerCase, inputs, { y: layer.forward(x) });
      layer.dispose();
    });
  });

  test('merges as PEFT does, and then computes the same', () => {
    scope(() => {
      const layer = layerOf(layerCase);
      const x = layerCase.tensor('x');
      layer.mergeAdapter();
      expect(layer.adapter).toBeUndefined();
      expect([...layer.namedParameters().keys()]).not.toContain('lora_A.weight');
      expectClose(layer.weight, layerCase.tensor('merged'));
      expectClose(layer.forward(x), layerCase.tensor('y'), 2e-6);
      layer.dispose();
    });
  });

  test('starts as the layer itself', () => {
    scope(() => {
      const layer = layerOf(layerCase);
      const generator = RandomGenerator.create(1);
      const adapter = layer.attachAdapter(layerCase.settings);
      adapter.initialize('cpu', { generator });
      const bound = 1 / Math.sqrt(layer.inFeatures);
      expect(adapter.a.abs().max().item()).toBeLessThanOrEqual(bound);
      expect(adapter.a.abs().max().item()).toBeGreaterThan(bound / 2);
      if (layerCase.settings.dora) {
        expectClose(adapter.magnitude, layerCase.tensor('start.lora_magnitude_vector'));
      }
      const x = layerCase.tensor('x');
      const adapted = layer.forward(x);
      layer.detachAdapter();
      expectClose(adapted, layer.forward(x));
      layer.dispose();
      generator.dispose();
    });
  });

  test('dropout takes its masks in turn', () => {
    scope(() => {
      const layer = layerOf(layerCase, 0.5);
      const x = layerCase.leaf('x');
      const run = (masks = masksOf(7, x)) => {
        const y = layer.forward(x, masks);
        return [y, ...grad([y], [x, ...layer.parameters()], [layerCase.tensor('grad.y')])];
      };
      const masks = masksOf(7, x);
      const first = run(masks);
      const second = run(masks);
      run().forEach((again, i) => expectClose(again, first[i]!, 0));
      expect(second[0]!.sub(first[0]!).abs().max().item()).toBeGreaterThan(0);
      expectClose(layer.forward(x), layerCase.tensor('y'));
      layer.dispose();
    });
  });
});

test('dropout leaves the expectation: the mean over many draws is the result without it', () => {
  scope(() => {
    for (const layerCase of CASES) {
      const layer = layerOf(layerCase, 0.25);
      const draws = 4000;
      const x = layerCase.tensor('x').narrow(0, 0, 1).narrow(1, 0, 1);
      const many = x.expand([draws, 1, x.size(2)]).contiguous();
      const mean = noGrad(() => layer.forward(many, masksOf(3, many))).mean([0], true);
      expectClose(mean, layerCase.tensor('y').narrow(0, 0, 1).narrow(1, 0, 1), 0.1);
      layer.dispose();
    }
  });
});

test('an fp32 adapter beside a bf16 weight gives bf16, close to fp32', () => {
  scope(() => {
    for (const layerCase of CASES) {
      const layer = layerOf(layerCase);
      layer.load(
        'weight',
        noGrad(() => layer.weight.to('bfloat16')),
      );
      if (layer.bias)
        layer.load(
          'bias',
          noGrad(() => layer.bias!.to('bfloat16')),
        );
      const y = layer.forward(layerCase.tensor('x').to('bfloat16'));
      expect(y.dtype).toBe('bfloat16');
      expectClose(y, layerCase.tensor('y'), 0.02);
      layer.dispose();
    }
  });
});

test('names and shapes on meta tensors', () => {
  scope(() => {
    const layer = new Linear(9, 13, { dtype: 'bfloat16' });
    layer.attachAdapter({ rank: 3, alpha: 6, dora: true, dropout: 0.1, dtype: 'bfloat16' });
    const shapes = [...layer.namedParameters()].map(([name, { shape }]) => [name, shape]);
    expect(shapes).toEqual([
      ['weight', [13, 9]],
      ['bias', [13]],
      ['lora_A.weight', [3, 9]],
      ['lora_B.weight', [13, 3]],
      ['lora_magnitude_vector', [13]],
    ]);
    const x = empty([2, 9], { dtype: 'bfloat16', device: 'meta' });
    const y = layer.forward(x, masksOf(0, x));
    expect([y.shape, y.dtype, y.device]).toEqual([[2, 13], 'bfloat16', 'meta']);
    layer.dispose();
  });
});

test('the norm of DoRA rows is a constant to the gradient', () => {
  scope(() => {
    const layerCase = CASES.find(({ name }) => name === 'dora')!;
    const layer = layerOf(layerCase);
    const x = randn([4, layer.inFeatures]);
    const { magnitude } = layer.adapter!;
    const [gradient] = grad([layer.forward(x).sum(null)], [magnitude]);
    const ones = layer.forward(x).div(magnitude).sum([0]);
    expectClose(gradient!, ones, 2e-6);
    layer.dispose();
  });
});

test('a rank or dropout that makes no sense is refused', () => {
  const layer = new Linear(3, 3);
  for (const options of [
    { rank: 0, alpha: 1 },
    { rank: 2.5, alpha: 1 },
    { rank: 2, alpha: 1, dropout: 1 },
    { rank: 2, alpha: 1, dropout: NaN },
  ]) {
    expect(() => layer.attachAdapter(options)).toThrow(expect.objectContaining({ code: 'E_LORA' }));
  }
  layer.dispose();
});
