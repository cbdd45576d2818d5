import { expect, test } from 'vitest';
import { empty, scope } from '../torch/index.js';
import { PatchConv2d } from './patches.js';
import { expectCase, layerCases, loadCase } from './testing.js';

test.each(layerCases<{ patch: number }>('patches'))('matches PyTorch: $name', (layerCase) => {
  scope(() => {
    const x = layerCase.leaf('x');
    const bias = layerCase.name === 'bias';
    const layer = new PatchConv2d(3, layerCase.tensor('y').size(-1), layerCase.settings.patch, {
      bias,
    });
    loadCase(layer, layerCase);
    expectCase(layerCase, [...layer.namedParameters(), ['x', x]], { y: layer.forward(x) });
    layer.dispose();
  });
});

test('runs on meta tensors', () => {
  scope(() => {
    const layer = new PatchConv2d(3, 5, 14, { bias: false });
    const y = layer.forward(empty([2, 3, 56, 56], { device: 'meta' }));
    expect([y.shape, y.device]).toEqual([[2, 16, 5], 'meta']);
    layer.dispose();
  });
});
