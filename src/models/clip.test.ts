import { expect, test } from 'vitest';

import { convolution, Generator, noGrad, randn, scope, type Tensor } from '../torch/index.js';
import { ClipVisionTower } from './clip.js';

const config = {
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  numChannels: 3,
  imageSize: 30,
  patchSize: 14,
  hiddenAct: 'quick_gelu',
  layerNormEps: 1e-5,
} as const;

test('on CPU patches are summed as by the convolution of other implementations, to the bit', () => {
  using generator = Generator.create(1, 'cpu');
  const tower = new ClipVisionTower(config, { kernel: 'cpu' });
  tower.initialize('cpu', { generator, std: 1 });
  const { embeddings } = tower;
  noGrad(() =>
    scope(() => {
      const pixels = randn([5, 3, 30, 30], { generator });
      const parameter = (name: string): Tensor => embeddings.namedParameters().get(name)!;
      const weight = parameter('patch_embedding.weight');
      const sums = convolution(pixels, weight, null, [14, 14], [0, 0], [1, 1], false, [0, 0], 1);
      const positions = parameter('position_embedding.weight').narrow(0, 1, 4);
      const expected = sums.flatten(2).transpose(1, 2).add(positions);
      const actual = embeddings.forward(pixels).narrow(1, 1, 4);
      expect(actual.contiguous().toBytes()).toEqual(expected.contiguous().toBytes());
    }),
  );
  tower.dispose();
});
