import { describe, expect, test } from 'vitest';
import {
  attention,
  attentionByHand,
  type AttentionKernel,
  DropoutMasks,
  Fp8Form,
  linearsOf,
  type LoraOptions,
  packSequences,
} from '../nn/index.js';
import { expectClose, largest } from '../nn/testing.js';
import {
  type Device,
  type DType,
  empty,
  enableGrad,
  grad,
  liveTensors,
  noGrad,
  RandomGenerator,
  scope,
  type Tensor,
  tensor,
  tensorsIn,
} from '../torch/index.js';
import { readDecoderConfig } from './configs/decoder-config.js';
import { Decoder, type DecoderBlock } from './decoder.js';
import type { Level, SegmentGradient, TrainingInputs } from './segment.js';
import { TrainedBlock } from './trained-block.js';

const LEVELS: readonly Level[] = ['keep', 'products', 'attention', 'recompute'];
/** Packed records, of which one is a single token. */
const LENGTHS = [3, 1, 5];
const T = 9;
const HIDDEN = 12;

interface Variant {
  lora?: Omit<LoraOptions, 'rank' | 'alpha' | 'dtype'>;
  /** Of the layers with adapters; all without. */
  only?: RegExp;
  /** Whether the model's own parameters train; else the adapters alone. */
  trained?: boolean;
  json?: Record<string, unknown>;
  apart?: boolean;
  kernel?: AttentionKernel;
  /** Whether weights are in fp8: what quantising the gradients of several layers together gives, layer by layer does not. */
  fp8?: boolean;
}

const VARIANTS: Readonly<Record<string, Variant>> = {
  plain: { trained: true },
  'weights apart': { trained: true, apart: true },
  biases: { trained: true, json: { attention_bias: true, mlp_bias: true } },
  'biases of q, k, v alone': { trained: true, json: { model_type: 'qwen2' } },
  'biases, frozen': { lora: {}, json: { attention_bias: true, mlp_bias: true } },
  'another activation': { trained: true, json: { hidden_act: 'gelu' } },
  'attention without a backward by name': { trained: true, kernel: 'math' },
  'one head for all keys': { trained: true, json: { num_key_value_heads: 1 } },
  LoRA: { lora: {} },
  'LoRA beside what trains': { lora: {}, trained: true },
  'LoRA, A apart': { lora: {}, apart: true },
  'LoRA on some layers': { lora: {}, only: /v_proj|gate_proj|down_proj/ },
  'LoRA on the last layer': { lora: {}, only: /down_proj/ },
  'LoRA with dropout': { lora: { dropout: 0.4 } },
  'LoRA with dropout, beside what trains': { lora: { dropout: 0.4 }, trained: true },
  rsLoRA: { lora: { rsLora: true } },
  DoRA: { lora: { dora: true } },
  'DoRA beside what trains': { lora: { dora: true }, trained: true },
  'DoRA with dropout': { lora: { dora: true, dropout: 0.4 } },
  'DoRA with biases on some layers': {
    lora: { dora: true },
    only: /q_proj|o_proj|up_proj/,
    json: { attention_bias: true },
  },
  frozen: {},
};
const IN_FP8: Readonly<Record<string, Variant>> = {
  'frozen, in fp8': { fp8: true },
  'in fp8, weights apart': { fp8: true, lora: {}, apart: true },
  'LoRA with dropout over fp8': { fp8: true, lora: { dropout: 0.4 } },
  'LoRA on some layers over fp8': { fp8: true, lora: {}, only: /v_proj|gate_proj/ },
  'LoRA over fp8 with biases': {
    ...{ fp8: true, lora: {} },
    json: { attention_bias: true, mlp_bias: true },
  },
  'another activation over fp8': { fp8: true, lora: {}, json: { hidden_act: 'gelu' } },
  'DoRA over fp8': { fp8: true, lora: { dora: true } },
};

function makeBlock(variant: Variant, dtype: DType, device: Device = 'cpu'): DecoderBlock {
  const { lora, only = /./, trained = false, fp8 = false, json = {} } = variant;
  const config = readDecoderConfig({
    file: 'config.json',
    json: {
      model_type: 'llama',
      vocab_size: 5,
      hidden_size: HIDDEN,
      intermediate_size: 14,
      num_hidden_layers: 1,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 8,
      ...json,
    },
  });
  const decoder = new Decoder(config, { dtype });
  const block = decoder.blocks[0]!;
  if (lora !== undefined) {
    for (const [name, layer] of linearsOf(block)) {
      if (only.test(name)) layer.attachAdapter({ rank: 3, alpha: 6, dtype, ...lora });
    }
  }
  const generator = RandomGenerator.create(4);
  if (device === 'cpu') decoder.initialize('cpu', { generator, std: 0.3 });
  for (const [name, parameter] of block.namedParameters()) {
    if (!name.includes('magnitude') && device === 'cpu')
      noGrad(() => parameter.normal_(0.1, 0.3, { generator }));
    if (trained || name.includes('lora_')) parameter.requiresGrad_();
  }
  generator.dispose();
  if (fp8) {
    for (const [, layer] of linearsOf(block)) {
      const form = new Fp8Form();
      const parts = noGrad(() => form.quantise(layer.weight));
      layer.quantise(form);
      if (device === 'cpu') layer.loadParts(parts);
    }
  }
  return block;
}

function inputsFor(dtype: DType, kernel: AttentionKernel): TrainingInputs {
  const sequences = packSequences(LENGTHS, 'cpu');
  const angles = tensor(
    Array.from({ length: T * 4 }, (_, i) => Math.sin(i)),
    { dtype },
  ).view([1, T, 1, 4]);
  const both = (x: Tensor): Tensor =>
    x.expand([2, T, 1, 4]).permute([1, 2, 0, 3]).reshape([1, T, 1, 8]);
  return {
    inputIds: tensor([0]),
    images: null,
    rotation: { cos: both(angles.cos()), sin: both(angles.sin()) },
    attend: (_layer, q, k, v) => attention(q, k, v, { kernel, causal: true, sequences }),
    attention: attentionByHand(kernel, sequences),
  };
}

const places = () => {
  const records = LENGTHS.flatMap((length, i) => new Array<number>(length).fill(i));
  const indices = LENGTHS.flatMap((length) => Array.from({ length }, (_, i) => i));
  return {
    records: tensor(records, { dtype: 'int64' }),
    indices: tensor(indices, { dtype: 'int64' }),
  };
};

interface Result {
  readonly output: Tensor;
  readonly input: Tensor | null;
  readonly parameters: ReadonlyMap<string, Tensor | null>;
}

interface Setup {
  readonly block: DecoderBlock;
  readonly trainedBlock: TrainedBlock;
  readonly x: Tensor;
  readonly upstream: Tensor;
  readonly inputs: TrainingInputs;
  /** Positions whose results are read; the gradient of the others is 0. */
  readonly wanted?: Tensor;
  masks(): DropoutMasks;
}

function setUp(variant: Variant, dtype: DType): Setup {
  const block = makeBlock(variant, dtype);
  const trainedBlock = new TrainedBlock(block);
  if (variant.apart !== true) trainedBlock.laySideBySide();
  const values = (seed: number): Tensor =>
    tensor(
      Array.from({ length: T * HIDDEN }, (_, i) => Math.sin(seed * (i + 1))),
      { dtype },
    ).view([1, T, HIDDEN]);
  const where = places();
  return {
    block,
    trainedBlock,
    x: values(1.7),
    upstream: values(0.3),
    inputs: inputsFor(dtype, variant.kernel ?? 'cpu'),
    masks: () => new DropoutMasks([1, 2], where),
  };
}

/** The same where some results are read and others are not. */
function reading(positions: readonly number[], setup: Setup): Setup {
  const wanted = tensor(positions, { dtype: 'int64' });
  const upstream = setup.upstream
    .zerosLike()
    .indexCopy(1, wanted, setup.upstream.indexSelect(1, wanted));
  return { ...setup, wanted, upstream };
}

/** By autograd over the layers of decoder.ts: the oracle. */
function recorded({ block, x, upstream, inputs, masks, wanted }: Setup): Result {
  const leaf = x.detach().requiresGrad_();
  const trained = [...block.namedParameters()].filter(([, each]) => each.requiresGrad);
  const output = enableGrad(() => block.forward(leaf, inputs, masks()));
  const gradients = grad([output], [leaf, ...trained.map(([, each]) => each)], [upstream]);
  const input = gradients.shift()!;
  const read = wanted === undefined ? output : output.detach().indexSelect(1, wanted);
  return {
    output: read,
    input,
    parameters: new Map(trained.map(([name], i) => [name, gradients[i]!])),
  };
}

function byHand(setup: Setup, level: Level, wantsInput = true): Result {
  const { block, trainedBlock, x, inputs, masks, wanted } = setup;
  const upstream = wanted === undefined ? setup.upstream : setup.upstream.indexSelect(1, wanted);
  return noGrad(() => {
    const { output, kept } = trainedBlock.forward({ x, inputs, level, masks: masks(), wanted });
    const call = { x, kept, upstream, inputs, masks: masks(), wanted, wantsInput };
    const { input, parameters }: SegmentGradient = trainedBlock.backward(call);
    for (const each of tensorsIn(kept)) each.dispose();
    const trained = [...block.namedParameters()].filter(([, each]) => each.requiresGrad);
    expect(parameters.size).toBe(trained.length);
    return {
      output,
      input,
      parameters: new Map(trained.map(([name, each]) => [name, parameters.get(each) ?? null])),
    };
  });
}

function expectSame(actual: Result, expected: Result, tolerance: number): void {
  expectClose(actual.output, expected.output, tolerance, 'output');
  if (actual.input !== null) expectClose(actual.input, expected.input!, tolerance, 'input');
  expect([...actual.parameters.keys()]).toEqual([...expected.parameters.keys()]);
  // What is 0 but for rounding (of queries and keys in a record of one token) is so on the scale of all.
  const scale = Math.max(...[...expected.parameters.values()].map((each) => largest(each!)));
  for (const [name, gradient] of actual.parameters) {
    expect(gradient?.dtype, name).toBe(expected.parameters.get(name)!.dtype);
    expectClose(gradient, expected.parameters.get(name)!, tolerance, name, scale);
  }
}

describe.each(Object.entries(IN_FP8))('%s', (_, variant) => {
  test('what autograd gives, but for what is rounded to fp8', () => {
    scope(() => {
      const setup = setUp(variant, 'float32');
      const actual = byHand(setup, 'recompute');
      // Layer by layer in fp8: the gradients of q, k, v, and of gate and up, do not share their scales there.
      expectNear(actual, recorded(setup), { output: 0.02, gradients: 0.15 });
      for (const [, layer] of linearsOf(setup.block)) {
        const dense = noGrad(() => layer.base.dense());
        layer.makeDense();
        layer.load('weight', dense);
      }
      // What the codes stand for: in a block as small as this, roundings of 2.6 % each do not average out.
      expectNear(actual, recorded(setup), { output: 0.1, gradients: 0.25 });
      setup.block.dispose();
    });
  });
});

/** By root mean squares. */
function expectNear(
  actual: Result,
  expected: Result,
  most: Readonly<Record<'output' | 'gradients', number>>,
): void {
  const off = (a: Tensor, e: Tensor): number =>
    Math.sqrt(a.sub(e).square().sum(null).item() / e.square().sum(null).item());
  expect(off(actual.output, expected.output)).toBeLessThan(most.output);
  expect(off(actual.input!, expected.input!)).toBeLessThan(most.gradients);
  for (const [name, gradient] of actual.parameters) {
    expect(off(gradient!, expected.parameters.get(name)!), name).toBeLessThan(most.gradients);
  }
}

describe.each(Object.entries(VARIANTS))('%s', (_, variant) => {
  test('what autograd gives for the layers one by one, in float64, at every level', () => {
    scope(() => {
      const setup = setUp(variant, 'float64');
      const expected = recorded(setup);
      for (const level of LEVELS) expectSame(byHand(setup, level), expected, 1e-11);
      setup.block.dispose();
    });
  });

  // A record of one token, the last of a record, and one that nobody reads.
  test.each([[[3]], [[1, 2, 3]], [[0, 5, 6, 8]]])(
    'the same where only results of positions %j are read, and nothing else is left behind',
    (positions) => {
      scope(() => {
        const setup = reading(positions, setUp(variant, 'float64'));
        const expected = recorded(setup);
        const before = liveTensors();
        scope(() => {
          for (const level of LEVELS) expectSame(byHand(setup, level), expected, 1e-11);
          expectSame(byHand(setup, 'attention', false), expected, 1e-11);
        });
        expect(liveTensors()).toBe(before);
        setup.block.dispose();
      });
    },
  );

  test('the same without a gradient for the input, and nothing else is left behind', () => {
    scope(() => {
      const setup = setUp(variant, 'float64');
      const expected = recorded(setup);
      const before = liveTensors();
      scope(() => {
        const actual = byHand(setup, 'products', false);
        expect(actual.input).toBeNull();
        expectSame(actual, expected, 1e-11);
      });
      expect(liveTensors()).toBe(before);
      setup.block.dispose();
    });
  });
});

describe.each(Object.entries({ ...VARIANTS, ...IN_FP8 }))('%s', (_, variant) => {
  test.each(['float32', 'bfloat16'] as const)(
    'every level gives the bits of keep, in %s',
    (dtype) => {
      scope(() => {
        const setup = setUp(variant, dtype);
        for (const each of [setup, reading([2, 3, 7], setup)]) {
          const [keep, ...others] = LEVELS.map((level) => byHand(each, level));
          for (const other of others) expectSame(other, keep!, 0);
        }
        setup.block.dispose();
      });
    },
  );

  test('keeps as many bytes as it says', () => {
    scope(() => {
      const setup = setUp(variant, 'float32');
      // Graphs are not counted.
      const isRecorded = variant.lora?.dora === true;
      for (const level of isRecorded ? LEVELS.slice(1) : LEVELS) {
        const { kept } = noGrad(() =>
          setup.trainedBlock.forward({ ...setup, level, masks: setup.masks() }),
        );
        const bytes = [...tensorsIn(kept)].reduce((sum, each) => sum + each.bytes, 0);
        const attentionRest = variant.kernel === 'math' && level !== 'recompute' ? 2 * 4 * T : 0;
        expect(bytes + attentionRest, level).toBe(T * setup.trainedBlock.keptBytes(level));
      }
      setup.block.dispose();
    });
  });
});

test.each([
  ['cudnn', [128, 128], false],
  ['cudnn', [5, 128], true],
  ['flash', [128, 128], false],
  ['efficient', [5, 4], false],
  ['cpu', [128, 128], true],
] as const)('on meta, as ghost runs see it: attention by %s over %s, fp8: %s', (...given) => {
  const [kernel, lengths, fp8] = given;
  const device = 'meta';
  const tokens = lengths[0] + lengths[1];
  scope(() => {
    const block = makeBlock({ lora: {}, trained: !fp8, fp8 }, 'bfloat16', device);
    const make = (shape: readonly number[], dtype: DType = 'bfloat16'): Tensor =>
      empty(shape, { dtype, device });
    const x = make([1, tokens, HIDDEN]);
    const sequences = packSequences(lengths, device);
    const inputs: TrainingInputs = {
      inputIds: make([1, tokens], 'int64'),
      images: null,
      rotation: { cos: make([1, tokens, 1, 8]), sin: make([1, tokens, 1, 8]) },
      attend: (_layer, q, k, v) => attention(q, k, v, { kernel, causal: true, sequences }),
      attention: attentionByHand(kernel, sequences),
    };
    const trainedBlock = new TrainedBlock(block);
    for (const level of LEVELS) {
      noGrad(() => {
        const { output, kept } = trainedBlock.forward({ x, inputs, level });
        const call = { x, kept, upstream: output, inputs, wantsInput: true };
        const { input, parameters } = trainedBlock.backward(call);
        expect([input!.shape, input!.dtype]).toEqual([x.shape, 'bfloat16']);
        for (const [parameter, gradient] of parameters) {
          expect(gradient.shape).toEqual(parameter.shape);
        }
        const trained = block.parameters().filter(({ requiresGrad }) => requiresGrad);
        expect(parameters.size).toBe(trained.length);
      });
    }
    block.dispose();
  });
});

test.each([0, 0.2])(
  'an adapter in fp32 beside weights in bf16, dropout %d, has gradients in fp32',
  (dropout) => {
    scope(() => {
      const setup = setUp({}, 'bfloat16');
      const generator = RandomGenerator.create(2);
      for (const [, layer] of linearsOf(setup.block)) {
        const adapter = layer.attachAdapter({ rank: 2, alpha: 4, dropout, dtype: 'float32' });
        adapter.initialize('cpu', { generator });
        for (const parameter of adapter.parameters()) {
          noGrad(() => parameter.normal_(0, 0.2, { generator })).requiresGrad_();
        }
      }
      generator.dispose();
      const expected = recorded(setup);
      const actual = byHand(setup, 'recompute');
      expectSame(actual, expected, 0.05);
      expect([...actual.parameters.values()].every((each) => each!.dtype === 'float32')).toBe(true);
      setup.block.dispose();
    });
  },
);

test('weights side by side are the same parameters, in one piece of memory', () => {
  scope(() => {
    const setup = setUp({ apart: true, trained: true, lora: {} }, 'float32');
    const { block, trainedBlock } = setup;
    const before = new Map([...block.namedParameters()].map(([name, each]) => [name, each]));
    const values = new Map([...before].map(([name, each]) => [name, each.toArray()]));
    trainedBlock.laySideBySide();
    trainedBlock.laySideBySide();
    for (const [name, parameter] of block.namedParameters()) {
      expect(parameter, name).toBe(before.get(name));
      expect(parameter.toArray(), name).toEqual(values.get(name));
      expect(parameter.requiresGrad, name).toBe(true);
    }
    const storages = (names: readonly string[]): number =>
      new Set(names.map((name) => block.namedParameters().get(name)!.storageId())).size;
    const of = (kind: string, layers: readonly string[]): string[] =>
      layers.map((layer) => `${layer}.${kind}`);
    const qkv = ['q', 'k', 'v'].map((name) => `self_attn.${name}_proj`);
    const gateUp = ['gate', 'up'].map((name) => `mlp.${name}_proj`);
    for (const layers of [qkv, gateUp]) {
      expect(storages(of('weight', layers))).toBe(1);
      expect(storages(of('lora_A.weight', layers))).toBe(1);
      expect(storages(of('lora_B.weight', layers))).toBe(layers.length);
    }
    block.dispose();
  });
});
