import { afterAll, beforeAll, expect, test } from 'vitest';

import { probe, type ProbedCall } from '../nn/index.js';
import { grad, noGrad, randn, scope, Tensor, tensorsIn } from '../torch/index.js';
import type { Batch } from './batch.js';
import type { Llava } from './llava.js';
import { loadLlava } from './load/load.js';
import { fixture, lastHidden, sameNumbers, storedBatch } from './testing.js';

let model: Llava;
let batch: Batch;
beforeAll(async () => {
  ({ model } = await loadLlava(fixture('llama3', 'hf')));
  batch = await storedBatch('llama3', 0, model.input);
});
afterAll(() => {
  model.dispose();
  for (const tensor of tensorsIn(batch)) tensor.dispose();
});

const under = (path: string, names: readonly string[]): string[] =>
  names.map((name) => `${path}${name}`);

const attention = (out: string): string[] =>
  under('.self_attn', ['.q_proj', '.k_proj', '.v_proj', `.${out}`, '']);
const CLIP_BLOCK = [
  ...['.layer_norm1', ...attention('out_proj')],
  ...['.layer_norm2', '.mlp.fc1', '.mlp.fc2', '.mlp', ''],
];
const DECODER_BLOCK = [
  ...['.input_layernorm', ...attention('o_proj')],
  ...['.post_attention_layernorm', ...under('.mlp', ['.gate_proj', '.up_proj', '.down_proj', ''])],
  '',
];

/** Every module with a forward pass that computes the logits, as each one ends. */
function expectedNames({ config }: Llava): string[] {
  const blocks = (path: string, count: number, names: string[]): string[] =>
    Array.from({ length: count }, (_, i) => under(`${path}.${i}`, names)).flat();
  return under('model.', [
    'language_model.rotary_emb',
    ...under('vision_tower.', [
      ...under('embeddings', ['.patch_embedding', '']),
      'pre_layrnorm',
      ...blocks('encoder.layers', config.featureLayer, CLIP_BLOCK),
    ]),
    ...under('multi_modal_projector', ['.linear_1', '.linear_2', '']),
    ...under('language_model.', [
      'embed_tokens',
      ...blocks('layers', config.text.numHiddenLayers, DECODER_BLOCK),
      'norm',
    ]),
  ]).concat('lm_head');
}

const logits = (): Tensor => model.head.logits(lastHidden(model, batch).flatten(0, 1));

test('a probe sees each module in order, with its name, inputs and result, and then no more', () => {
  const plain = noGrad(() => scope(logits));
  const seen: { name: string; rows: number[]; result: number[] | undefined }[] = [];
  const watch = ({ name, inputs, run }: ProbedCall): unknown => {
    const result = run();
    const shape = (value: unknown): number[] | undefined =>
      value instanceof Tensor ? [...value.shape] : undefined;
    seen.push({ name, rows: shape(inputs[0])!, result: shape(result) });
    return result;
  };
  const probed = noGrad(() =>
    scope(() => {
      using _ = probe(model.namedModules(), watch);
      return logits();
    }),
  );
  expect(seen.map(({ name }) => name)).toEqual(expectedNames(model));
  const { hiddenSize: C, intermediateSize: F } = model.config.text;
  const T = batch.counts.tokens;
  expect(seen.find(({ name }) => name.endsWith('layers.0.mlp.down_proj'))).toMatchObject({
    rows: [1, T, F],
    result: [1, T, C],
  });
  expect(sameNumbers(probed.toBytes(), plain.toBytes())).toBe(true);

  const count = seen.length;
  noGrad(() => scope(logits)).dispose();
  expect(seen).toHaveLength(count);
  expect(Object.hasOwn(model.decoder.norm, 'forward')).toBe(false);
  for (const tensor of [plain, probed]) tensor.dispose();
});

test('a probe around segments; what it returns goes on, and an error takes it off', () => {
  const named = model.segments.map((segment) => [segment.name, segment] as const);
  const seen: string[] = [];
  const broken = (): unknown =>
    scope(() => {
      using _ = probe(named, ({ name, run }) => {
        seen.push(name);
        if (name === 'decoder.1') throw new Error('here');
        return run();
      });
      return noGrad(logits);
    });
  expect(broken).toThrow('here');
  expect(seen).toEqual(named.map(([name]) => name).slice(0, -1));
  const doubled = noGrad(() =>
    scope(() => {
      using _ = probe(named, ({ name, run }) =>
        name === 'projector' ? (run() as Tensor).mul(2) : run(),
      );
      return logits();
    }),
  );
  const plain = noGrad(() => scope(logits));
  expect(seen).toHaveLength(named.length - 1);
  expect(sameNumbers(doubled.toBytes(), plain.toBytes())).toBe(false);
  for (const tensor of [plain, doubled]) tensor.dispose();
});

test('of two probes the later one stands outside', () => {
  const order: string[] = [];
  const watch =
    (name: string) =>
    ({ run }: ProbedCall): unknown => {
      order.push(name);
      return run();
    };
  const { norm } = model.decoder;
  noGrad(() =>
    scope(() => {
      using _first = probe([['norm', norm]], watch('first'));
      {
        using _second = probe([['norm', norm]], watch('second'));
        logits();
      }
      logits();
    }),
  );
  expect(order).toEqual(['second', 'first', 'first']);
});

test('gradients of all results within a segment come from one more call of grad', () => {
  const segment = model.segments.find(({ name }) => name === 'decoder.1')!;
  for (const parameter of segment.parameters().values()) parameter.requiresGrad_();
  scope(() => {
    const inputs = model.inputs(batch);
    const x = randn([1, batch.counts.tokens, model.config.text.hiddenSize]).requiresGrad_();
    const results = new Map<string, Tensor>();
    using _ = probe(model.namedModules(), ({ name, run }) => {
      const result = run() as Tensor;
      results.set(name, result);
      return result;
    });
    const y = segment.forward(x, inputs);
    const gradients = grad([y], [...results.values(), x], [y.detach().fullLike(1)]);
    expect([...results.keys()]).toEqual(under('model.language_model.layers.1', DECODER_BLOCK));
    [...results.values()].forEach((result, i) => {
      expect(gradients[i]!.shape).toEqual(result.shape);
    });
    // What the last branch adds to the stream gets the gradient of the result.
    const named = new Map([...results.keys()].map((name, i) => [name, gradients[i]!]));
    const down = named.get('model.language_model.layers.1.mlp.down_proj')!;
    expect(sameNumbers(down.toBytes(), y.detach().fullLike(1).toBytes())).toBe(true);
  });
  for (const parameter of segment.parameters().values()) parameter.requiresGrad_(false);
});
