/** Each cause that checks can find, done to a healthy run as a user could do it, and beside it a near twin that is no such fault. */
import { readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { checkRecipe, type RecipeInput } from '../../config/index.js';
import type { TrainEvent } from '../../train/index.js';
import { AccumulatingStore } from '../../train/step/accumulating-store.js';
import type { Cause } from '../causes.js';
import { train } from '../guarded-train.js';
import { checkTraining } from './recipe-check.js';
import { FaultFolder, healthy, look, talk } from './testing.js';

let folder: FaultFolder;
let picture: string;
beforeEach(async () => {
  folder = new FaultFolder();
  picture = await folder.picture('noise.png');
  folder.records(healthy(picture));
});
afterEach(() => folder.remove());

/** Changes the folder, and says how the recipe changes. */
type Change = () => unknown;

interface Fault {
  readonly cause: Cause;
  readonly what: string;
  readonly fault: Change;
  /** Line of the record, where it is about records. */
  readonly line?: number;
  readonly severity?: 'error' | 'warning';
  readonly twin: string;
  readonly near: Change;
}

const changed = async (change: Change): Promise<Partial<RecipeInput>> =>
  ((await change()) as Partial<RecipeInput> | undefined) ?? {};

const with_ = (...more: readonly unknown[]): void => {
  folder.records([...healthy(picture), ...more]);
};
const FIRST = healthy('').length + 1;
const EMBED = 'language_model.model.embed_tokens.weight';
const HEAD = 'language_model.lm_head.weight';
const HIDDEN = 48;
/** `<|eot_id|>`, which ends every answer. */
const EOT = 509;
/** A token that no record holds. */
const UNUSED = 500;
const scaled = (factor: number) => (values: Float32Array) =>
  values.forEach((v, i) => (values[i] = v * factor));
const row = (id: number, value: number | ((i: number) => number)) => (values: Float32Array) => {
  for (let i = 0; i < HIDDEN; i++) {
    values[id * HIDDEN + i] = typeof value === 'number' ? value : value(values[id * HIDDEN + i]!);
  }
};
const optimizer = (more: object): Partial<RecipeInput> => ({
  optimizer: { learningRate: 1e-3, ...more },
});
const loraPlus = (loraPlusRatio: number): Partial<RecipeInput> => ({
  train: { decoder: { lora: { rank: 4, loraPlusRatio } } },
});
const LONG = Array.from({ length: 60 }, (_, i) => `word${i}`).join(' ');

const FAULTS: readonly Fault[] = [
  {
    cause: 'template-mismatch',
    what: 'the template of another tokenizer',
    fault: () => {
      for (const file of ['tokenizer.json', 'tokenizer_config.json']) {
        folder.rewrite(file, (text) => text.replaceAll('<|eot_id|>', '<|xyz|>'));
      }
      return { text: { template: 'llama3_chat' } };
    },
    severity: 'error',
    twin: 'a format whose markers are plain words',
    near: () => ({ text: { template: 'vicuna' } }),
  },
  {
    cause: 'template-mismatch',
    what: 'a Jinja template with markers that the tokenizer cuts to pieces',
    fault: () => {
      const path = folder.write(
        'chatml.jinja',
        "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}",
      );
      return { text: { template: path } };
    },
    severity: 'error',
    twin: 'the template that it comes with',
    near: () => undefined,
  },
  {
    cause: 'template-mismatch',
    what: 'records that hold the markers of the template already',
    fault: () => with_(talk('x', 'say six', 'six<|eot_id|>')),
    line: FIRST,
    severity: 'warning',
    twin: 'an answer about another special token',
    near: () => with_(talk('x', 'what pads?', 'it is <pad>, or something like <|eot|>')),
  },
  {
    cause: 'template-mismatch',
    what: 'a role that no template knows',
    fault: () =>
      with_({
        id: 'x',
        conversations: [
          { from: 'human', value: 'q' },
          { from: 'bot', value: 'a' },
        ],
      }),
    line: FIRST,
    twin: 'the same roles by their other names',
    near: () =>
      with_({
        id: 'x',
        messages: [
          { role: 'user', content: 'q' },
          { role: 'assistant', content: 'a' },
        ],
      }),
  },
  {
    cause: 'no-supervision',
    what: 'a question without an answer',
    fault: () => with_(talk('x', 'say six')),
    line: FIRST,
    severity: 'error',
    twin: 'an answer of one letter',
    near: () => with_(talk('x', 'say six', '6')),
  },
  {
    cause: 'answer-truncated',
    what: 'a question so long that the answer is cut off',
    fault: () => {
      with_(talk('x', LONG, 'yes'));
      return { text: { maxLength: 100 } };
    },
    line: FIRST,
    severity: 'error',
    twin: 'the same question with room for its answer',
    near: () => {
      with_(talk('x', LONG, 'yes'));
      return { text: { maxLength: 600 } };
    },
  },
  {
    cause: 'answer-truncated',
    what: 'an answer that is cut off with its end',
    fault: () => {
      with_(talk('x', 'say much', LONG));
      return { text: { maxLength: 100 } };
    },
    line: FIRST,
    severity: 'warning',
    twin: 'a last question that is cut off, which nothing learns',
    near: () => {
      with_(talk('x', 'say six', 'six', LONG));
      return { text: { maxLength: 100 } };
    },
  },
  {
    cause: 'image-token-mismatch',
    what: 'a picture without a place in the text',
    fault: () => with_({ ...talk('x', 'what is it?', 'noise'), image: picture }),
    line: FIRST,
    severity: 'error',
    twin: 'two pictures with two places',
    near: () =>
      with_({ ...talk('x', '<image><image>what are they?', 'noise'), images: [picture, picture] }),
  },
  {
    cause: 'image-token-mismatch',
    what: 'a picture beyond the length of a record',
    fault: () => {
      with_(look('x', picture, 'hm?'));
      return { text: { maxLength: 20 } };
    },
    twin: 'a picture that ends just within it',
    near: () => ({ text: { maxLength: 50 } }),
  },
  {
    cause: 'broken-image',
    what: 'a picture that ends in its middle',
    fault: () => {
      const bytes = readFileSync(folder.at(picture));
      writeFileSync(folder.at('cut.png'), bytes.subarray(0, bytes.length / 2));
      with_(look('x', 'cut.png'));
    },
    line: FIRST,
    severity: 'error',
    twin: 'a picture with another ending than its kind',
    near: () => {
      writeFileSync(folder.at('noise.jpg'), readFileSync(folder.at(picture)));
      with_(look('x', 'noise.jpg'));
    },
  },
  {
    cause: 'broken-image',
    what: 'a picture that is not there',
    fault: () => with_(look('x', 'nowhere.png')),
    line: FIRST,
    twin: 'a picture by its whole path',
    near: () => with_(look('x', folder.at(picture))),
  },
  {
    cause: 'constant-image',
    what: 'a picture that is black but for noise of its compression',
    fault: async () => with_(look('x', await folder.picture('black.png', [0, 5]))),
    line: FIRST,
    severity: 'warning',
    twin: 'a picture of a dark night',
    near: async () => with_(look('x', await folder.picture('night.png', [0, 25]))),
  },
  {
    cause: 'duplicate-records',
    what: 'the same words about the same picture under another name',
    fault: () => {
      writeFileSync(folder.at('copy.png'), readFileSync(folder.at(picture)));
      with_({ ...healthy('copy.png')[1], id: 'another' });
    },
    line: FIRST,
    severity: 'warning',
    twin: 'the same words about another picture',
    near: async () => with_(look('b', await folder.picture('other.png', [10, 200]))),
  },
  {
    cause: 'repeated-text',
    what: 'an answer that says the same without end',
    fault: () => with_(talk('x', 'say six', `six ${'and then '.repeat(40)}`)),
    line: FIRST,
    severity: 'warning',
    twin: 'a long answer with a line of dashes',
    near: () =>
      with_(
        talk(
          'x',
          'a table',
          `a | b\n${'-'.repeat(80)}\n${Array.from({ length: 40 }, (_, i) => i).join(' ')}`,
        ),
      ),
  },
  {
    cause: 'empty-answer',
    what: 'an answer of blanks',
    fault: () => with_(talk('x', 'say nothing', ' \n')),
    line: FIRST,
    severity: 'error',
    twin: 'an answer of one dot',
    near: () => with_(talk('x', 'say nothing', '.')),
  },
  {
    cause: 'end-of-turn-unlearnt',
    what: 'a template that writes no end of an answer',
    fault: () => {
      const path = folder.write(
        'open.jinja',
        "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '\\n' }}{% endfor %}",
      );
      return { text: { template: path } };
    },
    severity: 'error',
    twin: 'a template that ends answers with eos_token',
    near: () => {
      const path = folder.write(
        'closed.jinja',
        "{{ bos_token }}{% for message in messages %}{{ message['role'] + ': ' + message['content'] + eos_token + '\\n' }}{% endfor %}",
      );
      return { text: { template: path } };
    },
  },
  {
    cause: 'id-out-of-vocabulary',
    what: 'a tokenizer with a token more than the model has rows',
    fault: () => {
      folder.rewrite('tokenizer.json', (text) => {
        const json = JSON.parse(text) as { added_tokens: Record<string, unknown>[] };
        const added = { ...json.added_tokens[0], id: 512, content: '<loc>', special: false };
        return JSON.stringify({ ...json, added_tokens: [...json.added_tokens, added] });
      });
      with_(talk('x', 'where?', 'at <loc>'));
      return { text: { specialTokens: 'parse' } };
    },
    line: FIRST,
    severity: 'error',
    twin: 'such a tokenizer, and no record with that token',
    near: () => {
      folder.rewrite('tokenizer.json', (text) => {
        const json = JSON.parse(text) as { added_tokens: Record<string, unknown>[] };
        const added = { ...json.added_tokens[0], id: 512, content: '<loc>', special: false };
        return JSON.stringify({ ...json, added_tokens: [...json.added_tokens, added] });
      });
    },
  },
  {
    cause: 'untrained-token-rows',
    what: 'a token of the template whose row is 0',
    fault: () => folder.weights(EMBED, row(EOT, 0)),
    line: 1,
    severity: 'error',
    twin: 'a token that no record holds with such a row',
    near: () => folder.weights(EMBED, row(UNUSED, 0)),
  },
  {
    cause: 'untrained-token-rows',
    what: 'a token whose row of the embeddings is wild',
    fault: () => folder.weights(EMBED, row(EOT, 3e38)),
    line: 1,
    severity: 'error',
    twin: 'a token whose row is four times as large as others',
    near: () =>
      folder.weights(
        EMBED,
        row(EOT, (v) => 4 * v),
      ),
  },
  {
    cause: 'weights-not-loaded',
    what: 'a tensor that is in no file',
    fault: () =>
      folder.rename(
        'vision_tower.encoder.layers.0.mlp.fc1.bias',
        'vision_tower.encoder.layers.0.mlp.fcX.bias',
      ),
    severity: 'error',
    twin: 'a new projector, which may be missing',
    near: () => ({
      model: { llm: folder.at('model'), vision: folder.at('model') },
      text: { maxLength: 256, template: 'llama3_chat' },
    }),
  },
  {
    cause: 'weights-not-loaded',
    what: 'a matrix that was never filled',
    fault: () =>
      folder.weights('language_model.model.layers.1.self_attn.q_proj.weight', (v) => v.fill(0)),
    severity: 'error',
    twin: 'a block that adds nothing yet',
    near: () =>
      folder.weights('language_model.model.layers.1.mlp.down_proj.weight', (v) => v.fill(0)),
  },
  {
    cause: 'weights-not-loaded',
    what: 'a norm that was never filled',
    fault: () => folder.weights('language_model.model.norm.weight', (v) => v.fill(0)),
    severity: 'error',
    twin: 'a norm of small weights',
    near: () => folder.weights('language_model.model.norm.weight', scaled(1e-3)),
  },
  {
    cause: 'weights-not-loaded',
    what: 'a file of weights that ends in its middle',
    fault: () => truncateSync(folder.at('model', 'model.safetensors'), 100_000),
    severity: 'error',
    twin: 'half as long a file of the same weights in bf16',
    near: () => folder.inBf16(),
  },
  {
    cause: 'weights-not-finite',
    what: 'one NaN among all weights',
    fault: () => folder.weights('multi_modal_projector.linear_1.weight', (v) => (v[7] = NaN)),
    severity: 'error',
    twin: 'one large number among them',
    near: () => folder.weights('multi_modal_projector.linear_1.weight', (v) => (v[7] = 3)),
  },
  {
    cause: 'fp16-overflow-decoder',
    what: 'fp16 for a decoder with large activations',
    fault: () => {
      folder.weights('language_model.model.layers.0.mlp.down_proj.weight', scaled(3e6));
      return { precision: { compute: 'fp16' } };
    },
    twin: 'the same decoder in fp32',
    near: () => folder.weights('language_model.model.layers.0.mlp.down_proj.weight', scaled(3e3)),
  },
  {
    cause: 'fp16-overflow-vision',
    what: 'fp16 for a projector with large activations',
    fault: () => {
      folder.weights('multi_modal_projector.linear_1.bias', (v) => v.fill(6e4));
      return { precision: { compute: 'fp16' } };
    },
    severity: 'error',
    twin: 'fp16 for one with ordinary ones, kept in bf16',
    near: () => {
      folder.inBf16();
      return { precision: { compute: 'fp16' } };
    },
  },
  {
    cause: 'fp16-overflow-decoder',
    what: 'fp16 for a model in bf16 where nothing can be computed here',
    fault: () => {
      folder.inBf16();
      return { precision: { compute: 'fp16' }, device: 'cuda' };
    },
    severity: 'warning',
    twin: 'bf16 for it',
    near: () => {
      folder.inBf16();
      return { precision: { compute: 'bf16' }, device: 'cuda' };
    },
  },
  {
    cause: 'start-loss-out-of-band',
    what: 'a head of other weights',
    fault: () => folder.weights(HEAD, scaled(100)),
    severity: 'error',
    twin: 'a head that is a little surer',
    near: () => folder.weights(HEAD, scaled(1.1)),
  },
  {
    cause: 'no-gradient',
    what: 'a projector behind a layer of zeros',
    fault: () => {
      folder.weights('multi_modal_projector.linear_2.weight', (v) => v.fill(1e-44).fill(0, 1));
      folder.weights('multi_modal_projector.linear_2.weight', (v) => (v[0] = 1e-45));
      return { train: { projector: 'full', decoder: 'frozen' } };
    },
    severity: 'error',
    twin: 'a new adapter, whose first factors have no gradient yet',
    near: () => ({ train: { projector: 'full', decoder: { lora: { rank: 4 } } } }),
  },
  {
    cause: 'no-clipping',
    what: 'clipping turned off',
    fault: () => optimizer({ clipNorm: null }),
    severity: 'warning',
    twin: 'a wide limit',
    near: () => optimizer({ clipNorm: 100 }),
  },
  {
    cause: 'learning-rate-too-high',
    what: 'a rate a thousand times too high',
    fault: () => optimizer({ learningRate: 3 }),
    severity: 'warning',
    twin: 'a high rate for a small model',
    near: () => optimizer({ learningRate: 2e-2 }),
  },
  {
    cause: 'learning-rate-too-high',
    what: 'a rate of a group a thousand times too high',
    fault: () => optimizer({ groups: [{ parameters: '*linear_2*', learningRate: 90 }] }),
    severity: 'warning',
    twin: 'a projector that learns faster, as a new one may',
    near: () => optimizer({ groups: [{ parameters: '*linear_2*', learningRate: 0.1 }] }),
  },
  {
    cause: 'learning-rate-too-high',
    what: 'second factors that learn a thousand times as fast as the first',
    fault: () => ({ ...optimizer({ learningRate: 1e-2 }), ...loraPlus(2000) }),
    severity: 'warning',
    twin: 'LoRA+ as it was published',
    near: () => ({ ...optimizer({ learningRate: 1e-2 }), ...loraPlus(16) }),
  },
  {
    cause: 'learning-rate-too-high',
    what: 'a long run without a warm-up',
    fault: () => ({ schedule: { updates: 200, warmupRatio: 0 } }),
    severity: 'warning',
    twin: 'a warm-up of half the run',
    near: () => ({ schedule: { updates: 200, warmupRatio: 0.5 } }),
  },
  {
    cause: 'batch-without-lr-rule',
    what: 'batch 1 with the learning rate of batch 16',
    fault: () => ({ effectiveBatch: 16, batchSize: 1, accumulate: 1 }),
    severity: 'warning',
    twin: 'the same with a rate that follows',
    near: () => ({ effectiveBatch: 16, batchSize: 1, accumulate: 1, learningRateRule: 'sqrt' }),
  },
  {
    cause: 'batch-without-lr-rule',
    what: 'full fine-tuning, one record at a time, at a rate for many',
    fault: () => ({
      ...optimizer({ learningRate: 2e-3 }),
      batchSize: 1,
      train: { decoder: 'full' },
    }),
    severity: 'warning',
    twin: 'the same with many accumulated',
    near: () => ({
      ...optimizer({ learningRate: 2e-3 }),
      batchSize: 1,
      accumulate: 64,
      train: { decoder: 'full' },
    }),
  },
  {
    cause: 'low-precision-weights',
    what: 'an epsilon that is 0 in the type of the states',
    fault: () => optimizer({ epsilon: 1e-50 }),
    severity: 'error',
    twin: 'a small epsilon',
    near: () => optimizer({ epsilon: 1e-15 }),
  },
];

describe.each(FAULTS)('$cause: $what', ({ cause, fault, line, severity, near, twin }) => {
  test('is found', async () => {
    const { findings, summary } = await folder.check(await changed(fault));
    const found = findings.find((each) => each.cause === cause);
    expect(found, JSON.stringify(findings.map((each) => each.message))).toBeDefined();
    if (line !== undefined) expect(found!.places.map((each) => each.line)).toContain(line);
    if (severity !== undefined) expect(found!.severity).toBe(severity);
    // What comes of it is told after it.
    if (severity === 'error') expect(findings[0]!.cause).toBe(cause);
    expect(found!.fix).not.toBe('');
    expect(summary.errors > 0).toBe(findings.some((each) => each.severity === 'error'));
  });

  test(`and not in ${twin}`, async () => {
    const { findings } = await folder.check(await changed(near));
    expect(findings.filter((each) => each.cause === cause)).toEqual([]);
  });
});

test.each<[string, Change]>([
  ['as it is', () => undefined],
  ['text alone', () => void folder.records(healthy(picture).filter((each) => !('image' in each)))],
  ['a single record', () => void folder.records([look('a', picture)])],
  ['with a long warm-up', () => ({ schedule: { updates: 100, warmupUpdates: 60 } })],
  [
    'a block that adds nothing yet',
    () => {
      for (const last of ['self_attn.o_proj', 'mlp.down_proj']) {
        folder.weights(`language_model.model.layers.1.${last}.weight`, (v) => v.fill(0));
      }
      return { train: { decoder: 'full' } };
    },
  ],
  ['all weights', () => ({ train: { vision: 'full', projector: 'full', decoder: 'full' } })],
  ['the tower by LoRA', () => ({ train: { vision: { lora: { rank: 4 } }, decoder: 'frozen' } })],
  ['in bf16', () => ({ precision: { compute: 'bf16' } })],
  ['in fp16', () => ({ precision: { compute: 'fp16' } })],
  ['packed', () => ({ batchSize: undefined, batchTokens: 256, effectiveBatch: 4 })],
  ['over NF4', () => ({ train: { decoder: { lora: {}, base: 'nf4' } } })],
  [
    'updated in backward',
    () => ({
      optimizer: { learningRate: 1e-3, updateInBackward: true, clipNorm: null },
      train: { decoder: 'full' },
    }),
  ],
])('nothing is found in a healthy run: %s', async (_, change) => {
  const { findings, summary } = await folder.check(await changed(change));
  expect(findings).toEqual([]);
  expect(summary).toMatchObject({ errors: 0, warnings: 0, bad: 0, odd: 0, notChecked: [] });
  expect(summary.loss).toBeGreaterThan(0);
});

test.each([
  [[], 1],
  [['quantised-base'], Infinity],
])('quantised-base: %j where a scale of a block is multiplied by %d', async (causes, factor) => {
  const quantised = new FaultFolder(join(packageRoot(), 'test', 'fixtures', 'nf4', 'checkpoint'));
  quantised.records(healthy('').filter((each) => !('image' in each)));
  const scale = 'model.layers.0.self_attn.k_proj.weight.nested_absmax';
  quantised.weights(scale, (values) => (values[0]! *= factor));
  const { findings } = await quantised.check();
  expect(findings.map(({ cause }) => cause).filter((each) => each === 'quantised-base')).toEqual(
    causes,
  );
  quantised.remove();
});

test.each([
  ['F16', ['adapter-dtype']],
  ['F32', []],
] as const)('adapter-dtype: an adapter in %s over a model in bf16', (dtype, causes) => {
  const stored = { name: '', shape: [1], file: 'adapter', offset: 0, bytes: 2 } as const;
  const tensors = [
    { name: 'lm_head.weight', isAdapter: false, stored: { ...stored, dtype: 'BF16' } },
    { name: 'q_proj.lora_A.weight', isAdapter: true, stored: { ...stored, dtype } },
  ] as const;
  const traits = { hiddenSize: 48, vocabSize: 512, parameters: 1, isNew: false };
  const recipe = checkRecipe(folder.recipe());
  const findings = checkTraining(recipe, { records: 100, worldSize: 1, traits, tensors });
  expect(findings.map(({ cause }) => cause)).toEqual(causes);
});

test('accumulation-weights: gradients of all micro-batches but the first are lost', async () => {
  const accept = AccumulatingStore.prototype.accept;
  const broken = vi.spyOn(AccumulatingStore.prototype, 'accept').mockImplementation(function (
    this: AccumulatingStore,
    segment,
    gradients,
  ) {
    const first = [...gradients].filter(([name]) => !this.gradients.has(name));
    accept.call(this, segment, new Map(first));
  });
  try {
    const { findings } = await folder.check();
    expect(findings.map(({ cause }) => cause)).toEqual(['accumulation-weights']);
  } finally {
    broken.mockRestore();
  }
});

test('a record on which a check fails is told, and the others are checked', async () => {
  const odd = vi.spyOn(Buffer.prototype, 'readUInt32LE').mockImplementationOnce(() => {
    throw new RangeError('odd');
  });
  try {
    const { findings, summary } = await folder.check(
      {},
      { parts: { model: false, training: false } },
    );
    expect(findings).toMatchObject([{ cause: 'unknown', code: 'E_RECORD_FAILED', line: 1 }]);
    expect(summary).toMatchObject({ records: healthy('').length, bad: 1 });
  } finally {
    odd.mockRestore();
  }
});

test('checks leave no tensor behind', async () => {
  await expect(async () => {
    const { summary } = await folder.check(optimizer({ clipNorm: 'adaptive' }));
    expect(summary).toMatchObject({ errors: 0, notChecked: [] });
  }).toLeakNothing();
});

test('records are checked where the weights cannot be read', async () => {
  truncateSync(folder.at('model', 'model.safetensors'), 100_000);
  with_(talk('x', 'say nothing', ' '));
  const { findings, summary } = await folder.check();
  expect(findings).toMatchObject([
    { cause: 'weights-not-loaded', code: 'E_SAFETENSORS' },
    { cause: 'empty-answer', line: FIRST },
  ]);
  expect(summary).toMatchObject({ bad: 1, counted: false, loss: null });
  expect(summary.notChecked[0]).toMatch(/^the model and tokens: first mend/);
});

test.each<[Cause, string, Change]>([
  ['weights-not-finite', 'E_NON_FINITE_WEIGHTS', () => folder.weights(HEAD, (v) => (v[7] = NaN))],
  [
    'weights-not-loaded',
    'E_SAFETENSORS',
    () => truncateSync(folder.at('model', 'model.safetensors'), 100_000),
  ],
])('%s ends a run before it begins, and is told as its cause', async (cause, code, change) => {
  await change();
  const events: TrainEvent[] = [];
  const run = async (): Promise<void> => {
    for await (const event of train(checkRecipe(folder.recipe()))) events.push(event);
  };
  await expect(run()).rejects.toMatchObject({ code });
  expect(events.filter(({ type }) => type === 'diagnosis')).toMatchObject([
    { update: 0, cause, page: `docs/causes/${cause}.md`, evidence: [`the run ended with ${code}`] },
  ]);
});

test('a run that is begun by the API is looked at first too, and names records by their numbers', async () => {
  const records = [...healthy(picture), talk('x', 'say six', '  ')];
  folder.write('data.jsonl', JSON.stringify(records));
  const events: TrainEvent[] = [];
  for await (const event of train(checkRecipe(folder.recipe()), { dryRun: true })) {
    events.push(event);
  }
  expect(events).toContainEqual({ type: 'loading', what: 'checking the first records' });
  expect(events.filter(({ type }) => type === 'finding')).toMatchObject([
    { cause: 'empty-answer', line: 1, id: 'x', count: 1 },
  ]);
  const [finding] = events.filter((event) => event.type === 'finding');
  expect(finding!.message).toContain(
    `data.jsonl:1 (record ${records.length}): its answer is empty`,
  );
});
