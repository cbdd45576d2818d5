/**
 * A decoder block on a GPU in bf16, by every attention kernel with a backward by name, against autograd over its layers in fp32 on the CPU:
 * with weights in fp8, over what their codes stand for. The latter also in bf16 on the CPU, which rounds to the same codes.
 */
import { describe, expect, test } from 'vitest';
import {
  attention,
  attentionByHand,
  type AttentionKernel,
  DropoutMasks,
  Fp8Form,
  linearsOf,
  packSequences,
} from '../nn/index.js';
import {
  cat,
  cudaAvailable,
  type Device,
  type DType,
  enableGrad,
  grad,
  noGrad,
  RandomGenerator,
  randn,
  scope,
  type Tensor,
  tensor,
} from '../torch/index.js';
import { readDecoderConfig } from './configs/decoder-config.js';
import { Decoder, type DecoderBlock } from './decoder.js';
import type { Level, TrainingInputs } from './segment.js';
import { TrainedBlock } from './trained-block.js';

const SHAPE = { hidden: 256, headDim: 64 };

interface Adapted {
  lora?: { dropout?: number; dora?: boolean };
  /** Whether weights are in fp8, which do not train. */
  fp8?: boolean;
  json?: Record<string, unknown>;
}

const VARIANTS: Readonly<Record<string, Adapted>> = {
  'all of it': {},
  'with biases': { json: { attention_bias: true, mlp_bias: true } },
  LoRA: { lora: {} },
  'LoRA with dropout': { lora: { dropout: 0.3 } },
  DoRA: { lora: { dora: true } },
};
const IN_FP8: Readonly<Record<string, Adapted>> = {
  'frozen, in fp8': { fp8: true },
  'with biases, in fp8': { fp8: true, json: { attention_bias: true, mlp_bias: true } },
  'LoRA over fp8': { fp8: true, lora: {} },
  'LoRA with dropout over fp8': { fp8: true, lora: { dropout: 0.3 } },
  'DoRA over fp8': { fp8: true, lora: { dora: true } },
};

/** Largest distances, of each parameter's gradient by itself. */
interface Tolerance {
  readonly output: number;
  readonly input: number;
  readonly parameters: number;
}

const BF16: Tolerance = { output: 0.01, input: 0.02, parameters: 0.03 };
/** Inputs and gradients are rounded to 4 bits, 2.6 % each, in seven products; measured: 0.03, 0.04 and 0.07. */
const FP8: Tolerance = { output: 0.04, input: 0.06, parameters: 0.1 };

function makeBlock({ lora, json = {} }: Adapted, dtype: DType, device: Device): DecoderBlock {
  const config = readDecoderConfig({
    file: 'config.json',
    json: {
      model_type: 'llama',
      vocab_size: 5,
      hidden_size: SHAPE.hidden,
      intermediate_size: 328,
      num_hidden_layers: 1,
      num_attention_heads: 4,
      num_key_value_heads: 2,
      head_dim: SHAPE.headDim,
      ...json,
    },
  });
  const decoder = new Decoder(config, { dtype });
  const block = decoder.blocks[0]!;
  if (lora !== undefined) {
    for (const [, layer] of linearsOf(block)) {
      layer.attachAdapter({ rank: 8, alpha: 16, dtype, ...lora });
    }
  }
  const generator = RandomGenerator.create(4, device);
  decoder.initialize(device, { generator, std: 0.05 });
  generator.dispose();
  return block;
}

/** The same values for both, as bf16 has them; with adapters these train alone, and over fp8 nothing else. */
function copyValues(from: DecoderBlock, to: DecoderBlock, { fp8 = false }: Adapted): void {
  const generator = RandomGenerator.create(6);
  const targets = to.namedParameters();
  noGrad(() => {
    for (const [name, parameter] of from.namedParameters()) {
      if (name.includes('layernorm')) parameter.normal_(1, 0.1, { generator });
      else if (!name.includes('magnitude')) parameter.normal_(0, 0.06, { generator });
      targets.get(name)!.copy_(parameter);
      parameter.copy_(targets.get(name)!);
    }
  });
  generator.dispose();
  if (fp8) quantise(to, from);
  for (const block of [from, to]) {
    const named = [...block.namedParameters()];
    const adapters = named.filter(([name]) => name.includes('lora_'));
    const trained = fp8 || adapters.length > 0 ? adapters : named;
    for (const [, parameter] of trained) parameter.requiresGrad_();
  }
}

/** The weights of a block in fp8; those of the other become what the codes stand for. */
function quantise(block: DecoderBlock, other: DecoderBlock): void {
  const dense = new Map(linearsOf(other));
  noGrad(() => {
    for (const [name, layer] of linearsOf(block)) {
      const form = new Fp8Form();
      const parts = form.quantise(layer.weight);
      form.denseInto(parts, dense.get(name)!.weight);
      layer.quantise(form);
      layer.loadParts(parts);
    }
  });
}

function inputsFor(
  lengths: readonly number[],
  kernel: AttentionKernel,
  place: { device: Device; dtype: DType },
): TrainingInputs {
  const sequences = packSequences(lengths, place.device);
  const tokens = lengths.reduce((sum, length) => sum + length, 0);
  const half = SHAPE.headDim / 2;
  const angles = tensor(Array.from({ length: tokens * half }, (_, i) => Math.sin(i))).view([
    1,
    tokens,
    1,
    half,
  ]);
  const both = (x: Tensor): Tensor => cat([x, x], 3).to(place);
  return {
    inputIds: tensor([0]),
    images: null,
    rotation: { cos: both(angles.cos()), sin: both(angles.sin()) },
    attend: (_layer, q, k, v) => attention(q, k, v, { kernel, causal: true, sequences }),
    attention: attentionByHand(kernel, sequences),
  };
}

/** The distance of two tensors by their norms. */
function distance(actual: Tensor, expected: Tensor): number {
  const [a, e] = [actual, expected].map((x) => x.to({ device: 'cpu', dtype: 'float64' })) as [
    Tensor,
    Tensor,
  ];
  return a.sub(e).linalgVectorNorm(2).item() / e.linalgVectorNorm(2).item();
}

const ROWS: readonly [AttentionKernel, readonly number[]][] = [
  ['cudnn', [96, 96]],
  ['cudnn', [200]],
  ['flash', [96, 96]],
  ['cudnn', [3, 1, 130]],
  ['flash', [3, 1, 130]],
];
const LEVELS: readonly Level[] = ['keep', 'products', 'attention', 'recompute'];

const CASES = ROWS.flatMap(([kernel, lengths]) =>
  [false, true].map((some) => [kernel, lengths, some] as const),
);

describe.runIf(cudaAvailable()).each(Object.entries({ ...VARIANTS, ...IN_FP8 }))(
  '%s',
  (_, variant) => {
    test.each(CASES)('%s over %j, of which some rows alone are read: %s', (...given) => {
      expectNear(variant, given, { device: 'cuda:0', dtype: 'bfloat16' });
    });
  },
);

test.each(Object.entries(IN_FP8))('%s, on the CPU', (_, variant) => {
  for (const some of [false, true]) {
    expectNear(variant, ['cpu', [3, 1, 130], some], { device: 'cpu', dtype: 'bfloat16' });
  }
});

type Case = readonly [kernel: AttentionKernel, lengths: readonly number[], some: boolean];

/** At every level; `some`: of which some rows alone are read. */
function expectNear(
  variant: Adapted,
  [kernel, lengths, some]: Case,
  place: { device: Device; dtype: DType },
): void {
  const most = variant.fp8 === true ? FP8 : BF16;
  scope(() => {
    const oracle = makeBlock(variant, 'float32', 'cpu');
    const block = makeBlock(variant, place.dtype, place.device);
    copyValues(oracle, block, variant);
    const tokens = lengths.reduce((sum, length) => sum + length, 0);
    const generator = RandomGenerator.create(8);
    const [x, given] = [1, 2].map(() =>
      randn([1, tokens, SHAPE.hidden], { generator }).to(place),
    ) as [Tensor, Tensor];
    generator.dispose();
    const positions = Array.from({ length: tokens }, (_unused, i) => i).filter((i) => i % 3 > 0);
    const wanted = some ? tensor(positions, { dtype: 'int64', device: place.device }) : undefined;
    const read = (all: Tensor): Tensor =>
      wanted === undefined ? all : all.detach().indexSelect(1, wanted.to(all.device));
    const upstream = read(given);
    const spread = wanted === undefined ? given : given.zerosLike().indexCopy(1, wanted, upstream);
    const where = (device: Device) => ({
      records: tensor(
        lengths.flatMap((length, i) => Array<number>(length).fill(i)),
        {
          dtype: 'int64',
          device,
        },
      ),
      indices: tensor(
        lengths.flatMap((length) => Array.from({ length }, (_unused, i) => i)),
        {
          dtype: 'int64',
          device,
        },
      ),
    });
    const masks = (device: Device): DropoutMasks => new DropoutMasks([1, 2], where(device));

    const leaf = x.to({ device: 'cpu', dtype: 'float32' }).requiresGrad_();
    const trained = [...oracle.namedParameters()].filter(([, each]) => each.requiresGrad);
    const cpu = inputsFor(lengths, 'cpu', { device: 'cpu', dtype: 'float32' });
    const expected = enableGrad(() => oracle.forward(leaf, cpu, masks('cpu')));
    const gradients = grad(
      [expected],
      [leaf, ...trained.map(([, each]) => each)],
      [spread.to({ device: 'cpu', dtype: 'float32' })],
    );

    const trainedBlock = new TrainedBlock(block);
    trainedBlock.laySideBySide();
    const inputs = inputsFor(lengths, kernel, place);
    for (const level of LEVELS) {
      noGrad(() => {
        const same = { x, inputs, wanted };
        const forward = { ...same, level, masks: masks(place.device) };
        const { output, kept } = trainedBlock.forward(forward);
        expect(distance(output, read(expected)), `output, ${level}`).toBeLessThan(most.output);
        const backward = {
          ...same,
          kept,
          upstream,
          masks: masks(place.device),
          wantsInput: true,
        };
        const { input, parameters } = trainedBlock.backward(backward);
        expect(distance(input!, gradients[0]!), `input, ${level}`).toBeLessThan(most.input);
        const named = block.namedParameters();
        trained.forEach(([name], i) => {
          const actual = parameters.get(named.get(name)!)!;
          expect(distance(actual, gradients[i + 1]!), `${name}, ${level}`).toBeLessThan(
            most.parameters,
          );
        });
      });
    }
    for (const each of [oracle, block]) each.dispose();
  });
}
