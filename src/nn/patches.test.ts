import { expect, test } from 'vitest';
import { empty, scope } from '../torch/index.js';
import { PatchConv2d, type PatchKernel } from './patches.js';
import { expectCase, layerCases, loadCase } from './testing.js';

const kernels: PatchKernel[] = ['product', 'convolution'];
const cases = layerCases<{ patch: number }>('patches').flatMap((layerCase) =>
  kernels.map((kernel) => ({ layerCase, kernel, name: layerCase.name })),
);

test.each(cases)('matches PyTorch: $name by $kernel', ({ layerCase, kernel }) => {
  scope(() => {
    const x = layerCase.leaf('x');
    const bias = layerCase.name === 'bias';
    const layer = new PatchConv2d(3, layerCase.tensor('y').size(-1), layerCase.settings.patch, {
      bias,
      kernel,
    });
    loadCase(layer, layerCase);
    expectCase(layerCase, [...layer.namedParameters(), ['x', x]], { y: layer.forward(x) });
    layer.dispose();
  });
});

test.each(kernels)('runs on meta tensors by %s', (kernel) => {
  scope(() => {
    const layer = new PatchConv2d(3, 5, 14, { bias: false, kernel });
    const y = layer.forward(empty([2, 3, 60, 69], { device: 'meta' }));
    expect([y.shape, y.device]).toEqual([[2, 16, 5], 'meta']);
    layer.dispose();
  });
});
