import { expect, test } from 'vitest';
import { empty, scope } from '../torch/index.js';
import { Linear } from './linear.js';
import { expectCase, layerCases, loadCase } from './testing.js';

test.each(layerCases('linear'))('matches PyTorch: $name', (layerCase) => {
  scope(() => {
    const x = layerCase.leaf('x');
    const bias = layerCase.name !== 'plain';
    const layer = new Linear(x.size(-1), layerCase.tensor('y').size(-1), { bias });
    loadCase(layer, layerCase);
    const inputs = [...layer.namedParameters(), ['x', x] as [string, typeof x]];
    expectCase(layerCase, inputs, { y: layer.forward(x) });
    layer.dispose();
  });
});

test('runs on meta tensors', () => {
  scope(() => {
    const layer = new Linear(5, 7, { dtype: 'bfloat16' });
    const y = layer.forward(empty([2, 3, 5], { dtype: 'bfloat16', device: 'meta' }));
    expect([y.shape, y.dtype, y.device]).toEqual([[2, 3, 7], 'bfloat16', 'meta']);
    layer.dispose();
  });
});
