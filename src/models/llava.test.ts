import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { kernelsFor } from '../nn/index.js';
import {
  full,
  grad,
  graph,
  liveTensors,
  noGrad,
  scope,
  type Tensor,
  tensorsIn,
} from '../torch/index.js';
import { type Batch, makeBatch } from './batch.js';
import { readDecoderConfig } from './configs/decoder-config.js';
import { readLlavaConfig } from './configs/llava-config.js';
import { TextModel } from './language-model.js';
import { Llava } from './llava.js';
import { loadLlava } from './load/load.js';
import { readTensorFile } from './load/tensor-file.js';
import { unpadRows } from './padded.js';
import type { Sample } from './sample.js';
import { fixture, fixtureJson, lastHidden, logitsOf, sameNumbers, storedBatch } from './testing.js';

const VARIANTS = ['llama3', 'llama31-tied-small'];

function configOf(variant: string, fields: Record<string, unknown> = {}) {
  const json = { ...fixtureJson(variant, 'hf', 'config.json'), ...fields };
  return readLlavaConfig({ file: 'config.json', json });
}

describe.each(VARIANTS)('%s', (variant) => {
  let model: Llava;
  let batch: Batch;
  beforeAll(async () => {
    ({ model } = await loadLlava(fixture(variant, 'hf')));
    batch = await storedBatch(variant, 0, model.input);
    for (const parameter of model.parameters()) parameter.requiresGrad_();
  });
  afterAll(() => {
    model.dispose();
    for (const tensor of tensorsIn(batch)) tensor.dispose();
  });

  test('has the loss of transformers', () => {
    const { losses } = noGrad(() => model.head.losses(lastHidden(model, batch), batch.supervised));
    const mean = losses.sum(null).item() / batch.counts.supervised;
    expect(mean).toBeCloseTo(fixtureJson(variant, 'facts.json')['loss'] as number, 5);
    losses.dispose();
  });

  test('has the gradients of transformers, segment by segment as in one piece to the bit', async () => {
    const expected = await readTensorFile(fixture(variant, 'gradients.safetensors'));
    scope(() => {
      const seed = full([], 1 / batch.counts.supervised);
      const pieces = segmentGradients(model, batch, seed);
      const parameters = model.namedParameters();
      const x = lastHidden(model, batch);
      const rows = x.flatten(0, 1).indexSelect(0, batch.supervised.positions);
      const losses = model.head.logits(rows).crossEntropyLoss(batch.supervised.targets, null, 0);
      const whole = grad([losses], [...parameters.values()], [seed.expand(losses.shape)]);
      const norm = Math.hypot(...[...expected.values()].map(normOf));
      [...parameters.keys()].forEach((name, i) => {
        const [piece, one, reference] = [pieces.get(name), whole[i], expected.get(name)];
        expect(piece === undefined, name).toBe(reference === undefined);
        expect(one === null, name).toBe(reference === undefined);
        if (piece === undefined || reference === undefined) return;
        expect(sameNumbers(piece.toBytes(), one!.toBytes()), name).toBe(true);
        const allowed = 1e-5 * normOf(reference) + 1e-7 * norm;
        expect(normOf(piece.sub(reference)), name).toBeLessThanOrEqual(allowed);
      });
    });
    for (const tensor of expected.values()) tensor.dispose();
  });

  test('a sample has the same logits alone as among others', async () => {
    const inputs = await readTensorFile(fixture(variant, 'inputs.safetensors'));
    const stored = (name: string): Tensor => inputs.get(`0.${name}`)!;
    const samples = unpadRows(
      {
        inputIds: stored('input_ids'),
        attentionMask: stored('attention_mask'),
        labels: stored('labels'),
        pixelValues: stored('pixel_values'),
      },
      model.input,
    );
    const together = logitsOf(model, batch);
    const apart = samples.flatMap((sample) => [
      ...scope(() => logitsOf(model, makeBatch([sample], model.input))),
    ]);
    for (const tensor of inputs.values()) tensor.dispose();
    expect(apart.length).toBe(together.length);
    expect(Math.max(...apart.map((logit, i) => Math.abs(logit - together[i]!)))).toBeLessThan(3e-5);
  });

  test('a batch without pictures needs no tower', () => {
    const sample: Sample = { inputIds: [1, 2, 3], labels: [-100, 2, 3], images: [] };
    scope(() => {
      const text = makeBatch([sample], model.input);
      expect(text.images).toBeNull();
      expect(logitsOf(model, text)).toHaveLength(3 * model.input.vocabSize);
    });
  });

  test('nothing above the selected layer is in a segment', () => {
    const inSegments = new Set(
      [...model.segments, model.head].flatMap((segment) => [...segment.parameters().keys()]),
    );
    const idle = [...model.namedParameters().keys()].filter((name) => !inSegments.has(name));
    expect(idle.sort()).toEqual(fixtureJson(variant, 'facts.json')['without_gradient']);
  });
});

test('tied embeddings are a parameter of two segments', () => {
  const model = new Llava(configOf('llama31-tied-small'));
  const name = 'model.language_model.embed_tokens.weight';
  const embedding = model.segments.find((segment) => segment.name === 'embedding')!;
  expect(model.head.parameters().get(name)).toBe(embedding.parameters().get(name));
  expect([...model.tied]).toEqual([['lm_head.weight', name]]);
  expect(model.namedParameters().has('lm_head.weight')).toBe(false);
  model.dispose();
});

test('runs on meta tensors, where only shapes count', () => {
  const before = liveTensors();
  const model = new Llava(configOf('llama3'));
  const { tokens, size, tokenId } = model.input.image!;
  const ids = [...new Array<number>(tokens).fill(tokenId), 1, 2, 3];
  const image = new Float32Array(3 * size * size);
  const sample = { inputIds: ids, labels: ids.map((id) => (id < 4 ? id : -100)), images: [image] };
  scope(() => {
    const batch = makeBatch([sample, sample], model.input, { device: 'meta' });
    for (const parameter of model.parameters()) parameter.requiresGrad_();
    const seed = full([], 1, { device: 'meta' });
    const gradients = segmentGradients(model, batch, seed);
    for (const [name, parameter] of model.namedParameters()) {
      const gradient = gradients.get(name);
      if (gradient !== undefined) expect(gradient.shape, name).toEqual(parameter.shape);
    }
    expect(gradients.get('model.vision_tower.embeddings.class_embedding')!.device).toBe('meta');
  });
  model.dispose();
  expect(liveTensors()).toBe(before);
});

test('a model on meta calls the kernels of the card that it is meant for', () => {
  const target = { device: 'cuda', dtype: 'bfloat16', computeCapability: 9 } as const;
  const text = configOf('llama3').text;
  for (const [kernels, node] of [
    [kernelsFor(target), /FlashAttentionBackward/],
    [kernelsFor({ ...target, computeCapability: 7.5 }), /EfficientAttentionBackward/],
    [undefined, /FlashAttentionForCpuBackward/],
  ] as const) {
    const model = new TextModel(text, { dtype: 'bfloat16', ...(kernels && { kernels }) });
    for (const parameter of model.parameters()) parameter.requiresGrad_();
    scope(() => {
      const samples = [3, 4].map((length) => {
        const ids = Array.from({ length }, (_, i) => i);
        return { inputIds: ids, labels: ids, images: [] };
      });
      const batch = makeBatch(samples, model.input, { device: 'meta' });
      const nodes = graph(lastHidden(model, batch)).filter(({ name }) =>
        name.includes('Attention'),
      );
      expect(nodes).not.toEqual([]);
      for (const { name } of nodes) expect(name).toMatch(node);
    });
    model.dispose();
  }
});

test('a projector of any depth, with and without bias', () => {
  const config = configOf('llama3');
  for (const [depth, bias] of [
    [1, true],
    [3, false],
  ] as const) {
    const model = new Llava({ ...config, projector: { ...config.projector, depth, bias } });
    const names = [...model.projector.namedParameters().keys()];
    const layers = Array.from({ length: depth }, (_, i) => `linear_${i + 1}`);
    const leaves = bias ? ['weight', 'bias'] : ['weight'];
    expect(names).toEqual(layers.flatMap((layer) => leaves.map((leaf) => `${layer}.${leaf}`)));
    model.dispose();
  }
});

test('sequences longer than the window are refused', () => {
  const json = { ...(fixtureJson('llama3', 'hf', 'config.json')['text_config'] as object) };
  const config = readDecoderConfig({
    file: 'config.json',
    json: { ...json, model_type: 'mistral', sliding_window: 4 },
  });
  const model = new TextModel(config);
  const sample = (length: number): Sample => {
    const ids = Array.from({ length }, (_, i) => i);
    return { inputIds: ids, labels: ids, images: [] };
  };
  scope(() => {
    const device = 'meta';
    const fitting = makeBatch([sample(4), sample(4)], model.input, { device });
    expect(lastHidden(model, fitting).shape).toEqual([1, 8, config.hiddenSize]);
    const long = makeBatch([sample(5)], model.input, { device });
    expect(() => model.inputs(long)).toThrow(
      expect.objectContaining({ code: 'E_SLIDING_WINDOW' }) as Error,
    );
  });
  expect([...model.namedParameters().keys()][0]).toBe('model.embed_tokens.weight');
  model.dispose();
});

function normOf(tensor: Tensor): number {
  return scope(() => tensor.linalgVectorNorm(2).item());
}

/** Each segment's graph alone, from the boundary before it; gradients of shared parameters are summed. */
function segmentGradients(model: Llava, batch: Batch, factor: Tensor): Map<string, Tensor> {
  const sums = new Map<string, Tensor>();
  const add = (names: Iterable<string>, gradients: readonly (Tensor | null)[]): void => {
    [...names].forEach((name, i) => {
      const [gradient, sum] = [gradients[i] ?? null, sums.get(name)];
      if (gradient !== null) sums.set(name, sum === undefined ? gradient : sum.add(gradient));
    });
  };
  const inputs = model.inputs(batch);
  const boundaries = model.segments.reduce<(Tensor | null)[]>(
    (xs, segment) => [...xs, noGrad(() => segment.forward(xs.at(-1)!, inputs))],
    [null],
  );
  const head = model.head.parameters();
  const { inputGradient, parameterGradients } = model.head.losses(
    boundaries.at(-1)!,
    batch.supervised,
    { gradient: { factor, hidden: true, parameters: [...head.values()] } },
  );
  add(head.keys(), parameterGradients);
  model.segments.reduceRight<Tensor | null>((upstream, segment, i) => {
    const x = boundaries[i]?.detach().requiresGrad_() ?? null;
    const own = segment.parameters();
    const leaves = x === null ? [] : [x];
    const y = segment.forward(x, inputs);
    const gradients = grad([y], [...leaves, ...own.values()], [upstream]);
    const below = x === null ? null : gradients.shift()!;
    add(own.keys(), gradients);
    return below;
  }, inputGradient);
  return sums;
}
