import { expect, test } from 'vitest';
import { empty, randn, scope, tensor } from '../torch/index.js';
import { rotate, RotaryEmbedding, type RotaryScaling } from './rotary.js';
import { expectCase, expectClose, expectGradients, layerCases } from './testing.js';

interface Settings {
  dim: number;
  rope: {
    rope_type: 'default' | 'linear' | 'llama3';
    rope_theta: number;
    factor: number;
    low_freq_factor: number;
    high_freq_factor: number;
    original_max_position_embeddings: number;
  };
}

function scalingOf(rope: Settings['rope']): RotaryScaling {
  return {
    type: rope.rope_type,
    factor: rope.factor,
    lowFreqFactor: rope.low_freq_factor,
    highFreqFactor: rope.high_freq_factor,
    originalMaxPositionEmbeddings: rope.original_max_position_embeddings,
  };
}

test.each(layerCases<Settings>('rotary'))('matches transformers: $name', (layerCase) => {
  scope(() => {
    const { dim, rope } = layerCase.settings;
    const rotary = new RotaryEmbedding(dim, { theta: rope.rope_theta, scaling: scalingOf(rope) });
    rotary.placeBuffers('cpu');
    const frequencies = rotary.namedBuffers().get('inv_freq')!;
    expect(frequencies.toArray()).toEqual(layerCase.tensor('inv_freq').toArray());

    const rotation = rotary.forward(layerCase.tensor('positions'), 'float32');
    expectClose(rotation.cos.squeeze(-2), layerCase.tensor('cos'), 0);
    expectClose(rotation.sin.squeeze(-2), layerCase.tensor('sin'), 0);

    const [q, k] = [layerCase.leaf('q'), layerCase.leaf('k')];
    const outputs = { q_rotated: rotate(q, rotation), k_rotated: rotate(k, rotation) };
    expectCase(layerCase, Object.entries({ q, k }), outputs);
    rotary.dispose();
  });
});

test('has the gradients of finite differences', () => {
  scope(() => {
    const rotary = new RotaryEmbedding(6);
    rotary.placeBuffers('cpu');
    const positions = tensor([
      [0, 1, 7],
      [49, 20, 3],
    ]).to('int64');
    const rotation = rotary.forward(positions, 'float64');
    const x = randn([2, 3, 1, 6], { dtype: 'float64' }).requiresGrad_();
    expectGradients(() => rotate(x, rotation), [x]);
    rotary.dispose();
  });
});

test('positions shared by all rows, and meta tensors', () => {
  scope(() => {
    const rotary = new RotaryEmbedding(8);
    const rotation = rotary.forward(empty([5], { dtype: 'int64', device: 'meta' }), 'bfloat16');
    expect([rotation.cos.shape, rotation.cos.dtype]).toEqual([[5, 1, 8], 'bfloat16']);
    const x = empty([2, 5, 3, 8], { dtype: 'bfloat16', device: 'meta' });
    const turned = rotate(x, rotation);
    expect([turned.shape, turned.dtype, turned.device]).toEqual([[2, 5, 3, 8], 'bfloat16', 'meta']);
    rotary.dispose();
  });
});
