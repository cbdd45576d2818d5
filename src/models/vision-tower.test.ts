import { expect, test } from 'vitest';

import { CPU_KERNELS } from '../nn/index.js';
import { convolution, RandomGenerator, noGrad, randn, scope, type Tensor } from '../torch/index.js';
import type { VisionConfig } from './configs/vision-config.js';
import { VisionTower } from './vision-tower.js';

const siglip = { family: 'siglip', hiddenAct: 'gelu_pytorch_tanh' } as const;
const config: VisionConfig = {
  family: 'clip',
  hiddenSize: 16,
  intermediateSize: 24,
  numHiddenLayers: 1,
  numAttentionHeads: 2,
  numChannels: 3,
  imageSize: 30,
  patchSize: 14,
  hiddenAct: 'quick_gelu',
  layerNormEps: 1e-5,
  poolingHead: false,
  initializerRange: 1,
  initializerFactor: 1,
};

test('on CPU patches are summed as by the convolution of other implementations, to the bit', () => {
  using generator = RandomGenerator.create(1, 'cpu');
  const tower = new VisionTower(config, { kernels: CPU_KERNELS });
  tower.initialize('cpu', { generator });
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

test('where nothing is differentiated a block gives the same bits, its weights side by side or not', () => {
  using generator = RandomGenerator.create(1, 'cpu');
  const tower = new VisionTower(config, { kernels: CPU_KERNELS });
  tower.initialize('cpu', { generator });
  const block = tower.blocks[0]!;
  noGrad(() =>
    scope(() => {
      for (const parameter of block.parameters()) parameter.normal_(0, 0.3, { generator });
      const x = randn([2, 5, 16], { generator });
      const expected = block.forward(x).toBytes();
      expect(block.frozen(x).toBytes()).toEqual(expected);
      block.laySideBySide();
      const named = block.namedParameters();
      for (const kind of ['weight', 'bias']) {
        const places = ['q', 'k', 'v'].map((name) => named.get(`self_attn.${name}_proj.${kind}`)!);
        expect(new Set(places.map((each) => each.storageId())).size).toBe(1);
      }
      expect(block.frozen(x).toBytes()).toEqual(expected);
      expect(block.forward(x).toBytes()).toEqual(expected);
    }),
  );
  tower.dispose();
});

test('a tower that is trained from scratch starts as in transformers', () => {
  using generator = RandomGenerator.create(1, 'cpu');
  const [C, layers, range, factor] = [64, 3, 0.02, 2];
  const tower = new VisionTower({
    ...config,
    hiddenSize: C,
    intermediateSize: 256,
    numHiddenLayers: layers,
    initializerRange: range,
    initializerFactor: factor,
  });
  tower.initialize('cpu', { generator });
  const deviation = (name: string): number =>
    noGrad(() => scope(() => tower.namedParameters().get(name)!.square().mean(null).sqrt().item()));
  const block = 'encoder.layers.2';
  const inner = factor * C ** -0.5 * (2 * layers) ** -0.5;
  for (const [name, expected] of [
    ['embeddings.class_embedding', factor * C ** -0.5],
    ['embeddings.patch_embedding.weight', factor * range],
    ['embeddings.position_embedding.weight', factor * range],
    [`${block}.self_attn.q_proj.weight`, inner],
    [`${block}.self_attn.k_proj.weight`, inner],
    [`${block}.self_attn.v_proj.weight`, inner],
    [`${block}.self_attn.out_proj.weight`, factor * C ** -0.5],
    [`${block}.mlp.fc1.weight`, factor * (2 * C) ** -0.5],
    [`${block}.mlp.fc2.weight`, inner],
  ] as const) {
    expect(deviation(name) / expected, name).toBeCloseTo(1, name.includes('class') ? 0 : 1);
  }
  expect(deviation(`${block}.mlp.fc1.bias`)).toBe(0);
  expect(deviation(`${block}.layer_norm1.weight`)).toBe(1);
  tower.dispose();
});

test('a SigLIP has no class token, no norm before its blocks, and patches with a bias', () => {
  using generator = RandomGenerator.create(1, 'cpu');
  const tower = new VisionTower({ ...config, ...siglip });
  tower.initialize('cpu', { generator });
  const named = tower.namedParameters();
  expect([...named.keys()].filter((name) => !name.includes('layers'))).toEqual([
    'embeddings.patch_embedding.weight',
    'embeddings.patch_embedding.bias',
    'embeddings.position_embedding.weight',
    'post_layernorm.weight',
    'post_layernorm.bias',
  ]);
  noGrad(() =>
    scope(() => {
      named.get('embeddings.patch_embedding.bias')!.normal_(0, 1, { generator });
      const pixels = randn([5, 3, 30, 30], { generator });
      const [weight, bias, positions] = [...named.values()];
      const sums = convolution(pixels, weight!, bias!, [14, 14], [0, 0], [1, 1], false, [0, 0], 1);
      const expected = sums.flatten(2).transpose(1, 2).add(positions!);
      expect(tower.embed(pixels).toBytes()).toEqual(expected.contiguous().toBytes());
    }),
  );
  tower.dispose();
});

test('a SigLIP that is trained from scratch starts as in transformers', () => {
  using generator = RandomGenerator.create(1, 'cpu');
  const [C, F] = [64, 256];
  const sizes = { hiddenSize: C, intermediateSize: F, numHiddenLayers: 1 };
  const tower = new VisionTower({ ...config, ...siglip, ...sizes });
  tower.initialize('cpu', { generator });
  const facts = (name: string): { deviation: number; largest: number } =>
    noGrad(() =>
      scope(() => {
        const parameter = tower.namedParameters().get(name)!;
        const largest = parameter.abs().max().item();
        return { deviation: parameter.square().mean(null).sqrt().item(), largest };
      }),
    );
  for (const [name, expected] of [
    ['embeddings.patch_embedding.weight', (3 * 14 * 14) ** -0.5],
    ['embeddings.position_embedding.weight', C ** -0.5],
  ] as const) {
    expect(facts(name).deviation / expected, name).toBeCloseTo(1, 0);
  }
  for (const [name, fanOut] of [
    ['self_attn.q_proj', C],
    ['self_attn.out_proj', C],
    ['mlp.fc1', F],
    ['mlp.fc2', F],
  ] as const) {
    // Uniform: what deviates most is the bound, √3 deviations away.
    const { deviation, largest } = facts(`encoder.layers.0.${name}.weight`);
    const bound = (6 / (C + fanOut)) ** 0.5;
    expect(largest, name).toBeLessThanOrEqual(bound);
    expect(largest / bound, name).toBeCloseTo(1, 2);
    expect(deviation / (bound / 3 ** 0.5), name).toBeCloseTo(1, 1);
  }
  tower.dispose();
});
