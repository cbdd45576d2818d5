import { expect, test } from 'vitest';
import { empty, scope } from '../torch/index.js';
import { Embedding } from './embedding.js';
import { expectCase, layerCases, loadCase } from './testing.js';

test.each(layerCases<{ paddingIdx: number | null }>('embedding'))(
  'matches PyTorch: $name',
  (layerCase) => {
    scope(() => {
      const [count, size] = layerCase.tensor('weight').shape as [number, number];
      const paddingIndex = layerCase.settings.paddingIdx ?? undefined;
      const layer = new Embedding(count, size, { paddingIndex });
      loadCase(layer, layerCase);
      const y = layer.forward(layerCase.tensor('ids'));
      expectCase(layerCase, layer.namedParameters(), { y });
      layer.dispose();
    });
  },
);

test('runs on meta tensors', () => {
  scope(() => {
    const layer = new Embedding(11, 5);
    const y = layer.forward(empty([2, 3], { dtype: 'int64', device: 'meta' }));
    expect([y.shape, y.device]).toEqual([[2, 3, 5], 'meta']);
    layer.dispose();
  });
});
