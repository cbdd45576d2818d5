import { expect, test } from 'vitest';
import {
  fromBytes,
  RandomGenerator,
  liveTensors,
  ones,
  scope,
  tensor,
  type Tensor,
  zeros,
} from '../torch/index.js';
import { Embedding } from './embedding.js';
import { Linear } from './linear.js';
import { Module } from './module.js';
import { RMSNorm } from './norms.js';
import { RotaryEmbedding } from './rotary.js';

class Block extends Module {
  readonly norm = this.addChild('input_layernorm', new RMSNorm(4));
  readonly query = this.addChild('self_attn.q_proj', new Linear(4, 6, { bias: false }));
}

class Model extends Module {
  readonly embedding = this.addChild('embed_tokens', new Embedding(7, 4));
  readonly blocks = [0, 1].map((i) => this.addChild(`layers.${i}`, new Block()));
  readonly rotary = this.addChild('rotary_emb', new RotaryEmbedding(4));
}

const NAMES = [
  'embed_tokens.weight',
  'layers.0.input_layernorm.weight',
  'layers.0.self_attn.q_proj.weight',
  'layers.1.input_layernorm.weight',
  'layers.1.self_attn.q_proj.weight',
];

test('names are those of the layout, in order of registration, and all starts on meta', () => {
  const model = new Model();
  expect([...model.namedParameters().keys()]).toEqual(NAMES);
  expect([...model.namedParameters('model').keys()][0]).toBe('model.embed_tokens.weight');
  expect([...model.namedBuffers().keys()]).toEqual(['rotary_emb.inv_freq']);
  expect([...model.namedModules()].map(([name]) => name)).toEqual([
    '',
    'embed_tokens',
    'layers.0',
    'layers.0.input_layernorm',
    'layers.0.self_attn.q_proj',
    'layers.1',
    'layers.1.input_layernorm',
    'layers.1.self_attn.q_proj',
    'rotary_emb',
  ]);
  for (const tensor of model.parameters()) expect(tensor.device).toBe('meta');
  model.dispose();
});

test('load replaces one parameter, owns the tensor, and frees the one before', () => {
  const before = liveTensors();
  const model = new Model();
  scope(() => {
    model.load('layers.1.self_attn.q_proj.weight', ones([6, 4]));
  });
  const { weight } = model.blocks[1]!.query;
  expect([weight.device, weight.toArray()]).toEqual(['cpu', Array(6).fill([1, 1, 1, 1])]);
  expect(model.blocks[0]!.query.weight.device).toBe('meta');
  model.load('layers.1.self_attn.q_proj.weight', zeros([6, 4]));
  expect(weight.isDisposed).toBe(true);
  model.dispose();
  expect(liveTensors()).toBe(before);
});

test('an adapter puts its names beside the weight', () => {
  const model = new Model();
  model.blocks[0]!.query.attachAdapter({ rank: 2, alpha: 4 });
  expect([...model.namedParameters().keys()].filter((name) => name.includes('lora'))).toEqual([
    'layers.0.self_attn.q_proj.lora_A.weight',
    'layers.0.self_attn.q_proj.lora_B.weight',
  ]);
  model.load('layers.0.self_attn.q_proj.lora_B.weight', ones([6, 2]));
  expect(model.blocks[0]!.query.adapter!.b.device).toBe('cpu');
  model.blocks[0]!.query.detachAdapter();
  expect([...model.namedParameters().keys()]).toEqual(NAMES);
  model.dispose();
});

test('initialize draws what is still on meta, the same for the same seed', () => {
  const draw = (): [Model, number[]] => {
    const model = new Model();
    model.load('layers.0.input_layernorm.weight', zeros([4]));
    const generator = RandomGenerator.create(42);
    model.initialize('cpu', { generator, std: 0.5 });
    generator.dispose();
    return [model, model.parameters().flatMap((p) => [...(p.toTypedArray() as Float32Array)])];
  };
  const [model, values] = draw();
  const [again, same] = draw();
  expect(same).toEqual(values);
  const parameter = (name: string): Tensor => model.namedParameters().get(name)!;
  expect(parameter('layers.0.input_layernorm.weight').toArray()).toEqual([0, 0, 0, 0]);
  expect(parameter('layers.1.input_layernorm.weight').toArray()).toEqual([1, 1, 1, 1]);
  const deviation = scope(() => parameter('embed_tokens.weight').var(null).sqrt().item());
  expect(deviation).toBeGreaterThan(0.3);
  expect(deviation).toBeLessThan(0.7);
  expect(model.namedBuffers().get('rotary_emb.inv_freq')!.device).toBe('cpu');
  model.dispose();
  again.dispose();
});

test('parameters are read at every call: their storage may be freed and refilled in between', () => {
  const model = new Model();
  const generator = RandomGenerator.create(1);
  const { norm, query } = model.blocks[0]!;
  query.attachAdapter({ rank: 2, alpha: 4, dora: true });
  model.initialize('cpu', { generator });
  scope(() => {
    const ids = tensor([[1, 5, 2]], { dtype: 'int64' });
    const run = (): unknown =>
      scope(() => query.forward(norm.forward(model.embedding.forward(ids))).toArray());
    const first = run();
    for (const parameter of model.parameters()) {
      const bytes = parameter.toBytes();
      const { shape, dtype } = parameter;
      parameter.resizeStorage(0);
      parameter
        .resizeStorage(bytes.length)
        .fill_(NaN)
        .copy_(fromBytes(bytes, shape, dtype));
    }
    expect(run()).toEqual(first);
  });
  model.dispose();
  generator.dispose();
});

test('a wrong name or shape is refused and changes nothing', () => {
  const model = new Model();
  for (const name of [
    'weight',
    'layers.2.input_layernorm.weight',
    'layers.0',
    '',
    'rotary_emb.inv_freq',
  ]) {
    expect(() => model.load(name, ones([4]))).toThrow(
      expect.objectContaining({
        code: 'E_PARAMETER_NAME',
        message: `There is no parameter "${name}".`,
      }),
    );
  }
  expect(() => model.load('embed_tokens.weight', ones([4, 7]))).toThrow(
    expect.objectContaining({
      code: 'E_PARAMETER_SHAPE',
      message: 'Parameter "embed_tokens.weight" has the shape [7, 4], not [4, 7].',
    }),
  );
  expect(model.embedding.weight.device).toBe('meta');
  model.dispose();
});
