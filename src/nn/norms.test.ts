import { expect, test } from 'vitest';
import { empty, scope } from '../torch/index.js';
import { LayerNorm, RMSNorm } from './norms.js';
import { expectCase, layerCases, loadCase } from './testing.js';

for (const [file, Norm] of [
  ['rms-norm', RMSNorm],
  ['layer-norm', LayerNorm],
] as const) {
  test.each(layerCases<{ eps: number }>(file))(`${file} matches PyTorch: $name`, (layerCase) => {
    scope(() => {
      const x = layerCase.leaf('x');
      const layer = new Norm(x.size(-1), { eps: layerCase.settings.eps });
      loadCase(layer, layerCase);
      expectCase(layerCase, [...layer.namedParameters(), ['x', x]], { y: layer.forward(x) });
      layer.dispose();
    });
  });

  test(`${file} runs on meta tensors`, () => {
    scope(() => {
      const layer = new Norm(5, { dtype: 'bfloat16' });
      const y = layer.forward(empty([2, 3, 5], { dtype: 'bfloat16', device: 'meta' }));
      expect([y.shape, y.dtype, y.device]).toEqual([[2, 3, 5], 'bfloat16', 'meta']);
      layer.dispose();
    });
  });
}
