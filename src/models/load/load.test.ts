import { cpSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { TensorsError } from '../../formats/layouts/check-tensors.js';
import type { LayoutName } from '../../formats/layouts/tables.js';
import { readSafetensors } from '../../formats/safetensors/header.js';
import { writeSafetensors } from '../../formats/safetensors/write.js';
import { readSpan } from '../../formats/stored.js';
import { Linear } from '../../nn/index.js';
import { liveTensors, noGrad, scope, tensorsIn } from '../../torch/index.js';
import type { Batch } from '../batch.js';
import { TextModel } from '../language-model.js';
import type { Llava } from '../llava.js';
import {
  fixture,
  fixtureJson,
  lastHidden,
  logitsOf,
  sameNumbers,
  storedBatch,
  temporaryFolder,
  writeLayout,
  type LayoutChange,
  type WrittenTensor,
} from '../testing.js';
import { attachAdapters } from './attach-adapters.js';
import { assembleAny, type AssembleOptions } from './assemble.js';
import { loadLlava, loadModel, loadTextModel, type LoadOptions } from './load.js';

const VARIANT = 'llama31-tied-small';
/** What parts do not say. */
const PARTS = { featureLayer: -1, select: 'full', imageTokenId: 510 } as const;

const folders: string[] = [];
const made = async (layout: LayoutName, change: LayoutChange = {}): Promise<string> => {
  const folder = await writeLayout(VARIANT, layout, change);
  folders.push(folder);
  return folder;
};
const temporary = (): string => {
  const folder = temporaryFolder();
  folders.push(folder);
  return folder;
};

let batch: Batch;
let logits: Float32Array;
let live: number;
beforeAll(async () => {
  const { model } = await loadLlava(fixture(VARIANT, 'hf'));
  batch = await storedBatch(VARIANT, 0, model.input);
  logits = logitsOf(model, batch);
  model.dispose();
  live = liveTensors();
});
afterAll(() => {
  for (const tensor of tensorsIn(batch)) tensor.dispose();
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** Loads, compares the logits to the bit, frees. */
async function expectSame(source: string, options: LoadOptions = {}): Promise<void> {
  const { model } = await loadLlava(source, options);
  expect(sameNumbers(logitsOf(model, batch), logits)).toBe(true);
  model.dispose();
  expect(liveTensors()).toBe(live);
}

/** The error of a load, which must leave nothing behind. */
async function failure(source: string, options: LoadOptions = {}): Promise<unknown> {
  const error: unknown = await loadLlava(source, options).then(
    ({ model }) => model.dispose(),
    (reason: unknown) => reason,
  );
  expect(liveTensors()).toBe(live);
  return error;
}

const rename =
  (from: RegExp, to: string): NonNullable<LayoutChange['edit']> =>
  (tensor) => ({ ...tensor, name: tensor.name.replace(from, to) });

describe('every layout loads to the same logits', () => {
  test.each(['hf', 'hf-old', 'hf-2025', 'hf-2026'] as const)('%s', async (layout) => {
    await expectSame(await made(layout));
  });

  test('official, the tower beside it', async () => {
    const folder = await made('official');
    cpSync(await made('clip'), join(folder, 'tower'), { recursive: true });
    await expectSame(folder, { imageTokenId: 510 });
  });

  test('official, whose weights show a projector without bias', async () => {
    const edit: LayoutChange['edit'] = (tensor) =>
      /projector.*bias$/.test(tensor.name) ? undefined : tensor;
    const folder = await made('official', { edit });
    cpSync(await made('clip'), join(folder, 'tower'), { recursive: true });
    const config = { multimodal_projector_bias: false };
    const hf = await loadLlava(await made('hf', { edit, config }));
    const official = await loadLlava(folder, { imageTokenId: 510 });
    expect(sameNumbers(logitsOf(official.model, batch), logitsOf(hf.model, batch))).toBe(true);
    hf.model.dispose();
    official.model.dispose();
  });

  test.each(['clip', 'clip-2026'] as const)('decoder, %s and projector', async (tower) => {
    const [llm, vision, projector] = [
      await made('llama'),
      await made(tower),
      await made('projector'),
    ];
    await expectSame(llm, { ...PARTS, vision, projector });
    await expectSame(llm, { ...PARTS, vision, projector: join(projector, 'model.safetensors') });
    // The order does not matter: what is named first wins, and nothing is there twice.
    await expectSame(projector, { ...PARTS, vision, llm });
  });

  test("XTuner's .pth over configurations, with the original CLIP", async () => {
    const source = fixture(VARIANT, 'xtuner', 'iter_100.pth');
    await expectSame(source, {
      ...PARTS,
      llm: await made('llama'),
      vision: fixture(VARIANT, 'clip-full'),
    });
  });

  test("a projector that only its weights describe, as in the authors' file", async () => {
    const projector = await made('projector', { edit: rename(/^model\./, 'model.mm_projector.') });
    rmSync(join(projector, 'config.json'));
    const [llm, vision] = [await made('llama'), await made('clip')];
    await expectSame(llm, { ...PARTS, vision, projector });
  });

  test.skipIf(process.env['PATINA_FIXTURES'] === undefined)('the originals', async () => {
    const folder = join(process.env['PATINA_FIXTURES']!, 'llava', 'llama3');
    const at = (name: string): string => join(folder, name);
    const parts = { imageTokenId: 510, vision: at('clip-full') };
    const { model } = await loadLlava(at('hf'));
    const own = await storedBatch('llama3', 0, model.input);
    const expected = logitsOf(model, own);
    model.dispose();
    for (const [source, options] of [
      ['hf-old', {}],
      ['hf-2025', {}],
      ['hf-2026', {}],
      ['official', { imageTokenId: 510 }],
      ['llm', { ...parts, projector: at('xtuner/projector') }],
      ['xtuner/iter_100.pth', { ...parts, llm: at('llm') }],
    ] satisfies [string, LoadOptions][]) {
      const loaded = await loadLlava(at(source), options);
      expect(sameNumbers(logitsOf(loaded.model, own), expected), source).toBe(true);
      loaded.model.dispose();
    }
    for (const tensor of tensorsIn(own)) tensor.dispose();
  });
});

describe('known surplus is ignored, anything else is strict', () => {
  const tensor = (name: string, dtype: WrittenTensor['dtype'] = 'F32'): WrittenTensor => ({
    name,
    dtype,
    shape: [2],
    bytes: new Uint8Array(dtype === 'I64' ? 16 : 8),
  });

  /** The embeddings as a head, the last byte changed by so much. */
  const headLike = async (change: number): Promise<WrittenTensor> => {
    const name = 'language_model.lm_head.weight';
    const { tensors } = await readSafetensors(fixture(VARIANT, 'hf', 'model.safetensors'));
    const embeddings = tensors.find((each) => each.name.includes('embed_tokens'))!;
    const bytes = Uint8Array.from(await readSpan(embeddings));
    bytes[bytes.length - 1]! ^= change;
    return { name, dtype: embeddings.dtype, shape: embeddings.shape, bytes };
  };

  test('buffers that old versions stored, and a head that is tied', async () => {
    const add = [
      tensor('vision_tower.vision_model.embeddings.position_ids', 'I64'),
      tensor('language_model.model.layers.0.self_attn.rotary_emb.inv_freq'),
    ];
    await expectSame(await made('hf-old', { add }));
    const head = await headLike(0);
    const { model, unused } = await loadLlava(await made('hf', { add: [head] }));
    expect(unused).toEqual(['lm_head.weight']);
    model.dispose();
  });

  test('a head that is tied to the embeddings and differs from them', async () => {
    const folder = await made('hf', { add: [await headLike(1)] });
    expect(await failure(folder)).toMatchObject({
      code: 'E_TIED',
      message: expect.stringContaining('lm_head.weight') as string,
    });
    await expectSame(folder, { allow: ['lm_head.weight'] });
  });

  test('missing, unexpected and unfit tensors are all named', async () => {
    const source = await made('hf', {
      add: [tensor('language_model.model.layers.7.what')],
      edit: (each) => {
        if (each.name.endsWith('layers.1.mlp.up_proj.weight')) return undefined;
        if (each.name.endsWith('linear_1.bias')) return { ...each, dtype: 'I32' };
        if (!each.name.endsWith('model.norm.weight')) return each;
        return { ...each, shape: [...each.shape, 1] };
      },
    });
    const error = await failure(source);
    expect(error).toBeInstanceOf(TensorsError);
    expect(
      (error as TensorsError).faults.map(({ kind, name }) => `${kind} ${name}`).sort(),
    ).toEqual([
      'missing model.language_model.layers.1.mlp.up_proj.weight',
      'unexpected model.language_model.layers.7.what',
      'unfit model.language_model.norm.weight',
      'unfit model.multi_modal_projector.linear_1.bias',
    ]);
  });

  test('what is allowed to be missing is drawn anew, the same for the same seed', async () => {
    const llm = await made('llama');
    const vision = await made('clip');
    expect(await failure(llm, { ...PARTS, vision })).toMatchObject({ code: 'E_TENSORS' });
    const allow = ['model.multi_modal_projector.*'];
    const runs: Float32Array[] = [];
    for (const seed of [1, 1, 2]) {
      const { model, fresh } = await loadLlava(llm, { ...PARTS, vision, allow, seed });
      expect(fresh).toHaveLength(4);
      runs.push(logitsOf(model, batch));
      model.dispose();
    }
    expect(sameNumbers(runs[1]!, runs[0]!)).toBe(true);
    expect(sameNumbers(runs[2]!, runs[0]!)).toBe(false);
  });

  test.each([NaN, Infinity, -Infinity])('%s is refused by name, or allowed', async (value) => {
    const source = await made('hf', {
      edit: (each) => {
        if (!each.name.endsWith('linear_2.bias')) return each;
        const values = new Float32Array(each.shape[0]!);
        values[3] = value;
        return { ...each, bytes: new Uint8Array(values.buffer) };
      },
    });
    const error = await failure(source);
    expect(error).toMatchObject({ code: 'E_NON_FINITE_WEIGHTS' });
    expect(String(error)).toContain('"model.multi_modal_projector.linear_2.bias"');
    const allow = ['model.multi_modal_projector.linear_2.bias'];
    (await loadLlava(source, { allow })).model.dispose();
  });

  test('a number beyond fp16 is refused in fp16', async () => {
    const source = await made('hf', {
      edit: (each) => {
        if (!each.name.endsWith('linear_2.bias')) return each;
        return {
          ...each,
          bytes: new Uint8Array(new Float32Array(each.shape[0]!).fill(1e6).buffer),
        };
      },
    });
    expect(await failure(source, { dtype: 'float16' })).toMatchObject({
      code: 'E_NON_FINITE_WEIGHTS',
    });
  });
});

describe('configurations', () => {
  test('what nothing describes is named', async () => {
    const [llm, vision] = [await made('llama'), await made('clip')];
    expect(await failure(llm)).toMatchObject({ code: 'E_NO_CONFIG', hint: /--vision/ });
    expect(await failure(vision)).toMatchObject({ code: 'E_NO_CONFIG', hint: /--llm/ });
  });

  test('a projector that does not fit its parts', async () => {
    const projector = await made('projector', { config: { llm_hidden_size: 7 } });
    const parts = { ...PARTS, vision: await made('clip'), projector };
    const error = await failure(await made('llama'), parts);
    expect(String(error)).toMatch(/config\.json: llm_hidden_size: 7/);
  });

  test('a layer that the tower lacks', async () => {
    const parts = { ...PARTS, featureLayer: 9, vision: await made('clip') };
    expect(String(await failure(await made('llama'), parts))).toContain('no hidden state 9');
  });

  test('a tower on the hub is asked for by name', async () => {
    const source = await made('official', { config: { mm_vision_tower: 'someone/clip' } });
    const vision = await made('clip');
    const asked: string[] = [];
    const resolve = (name: string): Promise<string> => {
      asked.push(name);
      return Promise.resolve(vision);
    };
    await expectSame(source, { imageTokenId: 510, resolve });
    expect(asked).toEqual(['someone/clip']);
  });
});

describe('adapters', () => {
  const adapter = (name: string): string => fixture(VARIANT, `adapter-${name}-start`);
  const runs = () => (fixtureJson(VARIANT, 'facts.json')['trajectories'] as Trajectories).runs;
  interface Trajectories {
    runs: Record<string, { losses: number[] }>;
  }

  /** Mean loss of the first two micro-batches, as the first update of a trajectory has it. */
  async function firstLoss(model: Llava): Promise<number> {
    let [sum, count] = [0, 0];
    for (const i of [0, 1]) {
      const each = await storedBatch(VARIANT, i, model.input);
      sum += noGrad(() =>
        scope(() =>
          model.head.losses(lastHidden(model, each), each.supervised).losses.sum(null).item(),
        ),
      );
      count += each.counts.supervised;
      for (const tensor of tensorsIn(each)) tensor.dispose();
    }
    return sum / count;
  }

  test.each(['lora', 'rslora-dora'])('%s has the loss of peft, merged too', async (name) => {
    const { model } = await loadLlava(fixture(VARIANT, 'hf'), { adapters: [adapter(name)] });
    const expected = runs()[name]!.losses[0]!;
    expect(Math.abs((await firstLoss(model)) - expected)).toBeLessThan(2e-5 * expected);
    for (const [, module] of [...model.namedModules()]) {
      if (module instanceof Linear) module.mergeAdapter();
    }
    expect(Math.abs((await firstLoss(model)) - expected)).toBeLessThan(2e-5 * expected);
    model.dispose();
  });

  test('models that differ in an adapter hold the rest once, whichever goes first', async () => {
    const base = await loadLlava(fixture(VARIANT, 'hf'));
    const adapters = [adapter('lora')];
    const { model: alone } = await loadLlava(fixture(VARIANT, 'hf'), { adapters });
    const wanted = logitsOf(alone, batch);
    alone.dispose();
    const read: number[] = [];
    const onProgress = (_done: number, total: number): unknown => read.push(total);
    const { model, stored } = await loadLlava(fixture(VARIANT, 'hf'), {
      ...{ adapters, beside: base, onProgress },
    });
    const plain = logitsOf(base.model, batch);
    const ofAdapter = [...stored.values()].filter(({ file }) => file.startsWith(adapters[0]!));
    expect(read.at(-1)).toBe(ofAdapter.reduce((sum, { bytes }) => sum + bytes, 0));
    expect(sameNumbers(logitsOf(model, batch), wanted)).toBe(true);
    expect(sameNumbers(plain, wanted)).toBe(false);
    base.model.dispose();
    expect(sameNumbers(logitsOf(model, batch), wanted)).toBe(true);
    model.dispose();
    const other = await loadLlava(fixture(VARIANT, 'hf'));
    const half = { dtype: 'bfloat16', beside: other } as const;
    const { model: narrow } = await loadLlava(fixture(VARIANT, 'hf'), half);
    expect(narrow.parameters().every(({ dtype }) => dtype === 'bfloat16')).toBe(true);
    narrow.dispose();
    other.model.dispose();
  });

  test('an adapter is a source, over the model that it names or that is given', async () => {
    const { model } = await loadLlava(adapter('lora'), { base: fixture(VARIANT, 'hf') });
    const expected = logitsOf(model, batch);
    model.dispose();
    const folder = temporary();
    cpSync(adapter('lora'), folder, { recursive: true });
    cpSync(fixture(VARIANT, 'hf'), join(folder, 'base'), { recursive: true });
    const config = fixtureJson(VARIANT, 'adapter-lora-start', 'adapter_config.json');
    const named = { ...config, base_model_name_or_path: 'base' };
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(named));
    const other = await loadLlava(folder);
    expect(sameNumbers(logitsOf(other.model, batch), expected)).toBe(true);
    other.model.dispose();
  });

  test.each([
    ['embeddings and head', /embed_tokens|lm_head/],
    ['norms', /norm/],
    ['biases', /\.bias$/],
    ['the whole decoder', /language_model|lm_head/],
    ['the tower', /vision_tower/],
  ])('an adapter with %s of its own lies over the model that it names', async (_, own) => {
    const folder = temporary();
    cpSync(fixture(VARIANT, 'hf'), join(folder, 'base'), { recursive: true });
    const read = async (...path: string[]) =>
      (await readSafetensors(fixture(VARIANT, ...path))).tensors;
    const lora = await read('adapter-lora-start', 'adapter_model.safetensors');
    const whole = await read('hf', 'model.safetensors');
    const saved = whole
      .filter(({ name }) => own.test(name))
      .map((each) => ({
        ...each,
        name: `base_model.model.${each.name
          .replace('language_model.model.', 'model.language_model.')
          .replace('language_model.lm_head', 'lm_head')
          .replace(/^(vision_tower|multi_modal_projector)/, 'model.$1')}`,
      }));
    const there = new Set(saved.map(({ name }) => name));
    await writeSafetensors(
      join(folder, 'adapter_model.safetensors'),
      [...lora.filter(({ name }) => !there.has(name)), ...saved].map((each) => ({
        ...each,
        bytes: () => readSpan(each),
      })),
    );
    const config = fixtureJson(VARIANT, 'adapter-lora-start', 'adapter_config.json');
    const named = { ...config, base_model_name_or_path: 'base', ensure_weight_tying: true };
    writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(named));
    const { model, assembly } = await loadLlava(folder);
    expect(saved.length).toBeGreaterThan(0);
    expect(assembly.sources.map(({ isAdapter }) => isAdapter)).toEqual([true, false]);
    model.dispose();
  });

  test('a pattern of alphas goes by the names of the model that was adapted', async () => {
    const folder = temporary();
    const { tensors } = await readSafetensors(join(adapter('lora'), 'adapter_model.safetensors'));
    // As peft writes it for the decoder alone.
    const written = tensors
      .filter(({ name }) => name.includes('.lora_'))
      .map((stored) => ({
        name: stored.name.replace('.model.language_model.', '.model.'),
        dtype: stored.dtype,
        shape: stored.shape,
        bytes: () => readSpan(stored),
      }));
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), written);
    const config = fixtureJson(VARIANT, 'adapter-lora-start', 'adapter_config.json');
    const patterns = { 'model.layers.0.self_attn.q_proj': 4, up_proj: 2 };
    writeFileSync(
      join(folder, 'adapter_config.json'),
      JSON.stringify({ ...config, alpha_pattern: patterns }),
    );
    const { model } = await loadLlava(fixture(VARIANT, 'hf'), { adapters: [folder] });
    const layers = [...model.namedModules()].filter(([, module]) => module instanceof Linear);
    const scaling = (name: string): number | undefined =>
      (new Map(layers).get(`model.language_model.layers.${name}`) as Linear).adapter?.scaling;
    const usual = Number(config['lora_alpha']) / Number(config['r']);
    expect(scaling('0.self_attn.q_proj')).toBe(4 / Number(config['r']));
    expect(scaling('1.mlp.up_proj')).toBe(2 / Number(config['r']));
    expect(scaling('1.self_attn.q_proj')).toBe(usual);
    expect(scaling('0.self_attn.k_proj')).toBe(usual);
    model.dispose();
  });

  test.each([
    ['embeddings', ['embed'], false, 1, 'E_TIED'],
    ['a head', ['head'], false, 1, 'E_TIED'],
    ['embeddings as they were', ['embed'], false, 0, undefined],
    ['a head as it was', ['head'], false, 0, undefined],
    ['embeddings that are the head', ['embed'], true, 1, undefined],
    ['a head alone that should be', ['head'], true, 1, 'E_TIED'],
    ['both alike', ['embed', 'head'], false, 1, undefined],
  ])('over a tied model, with %s', async (_, sides, tying, change, code) => {
    const base = fixture(VARIANT, 'hf');
    const { tensors } = await readSafetensors(join(base, 'model.safetensors'));
    const stored = tensors.find(({ name }) => name.endsWith('embed_tokens.weight'))!;
    const bytes = Buffer.from(await readSpan(stored));
    bytes[0]! ^= change;
    const lora = (await readSafetensors(join(adapter('lora'), 'adapter_model.safetensors')))
      .tensors;
    const names = {
      embed: 'base_model.model.model.language_model.embed_tokens.weight',
      head: 'base_model.model.lm_head.weight',
    };
    const folder = temporary();
    await writeSafetensors(join(folder, 'adapter_model.safetensors'), [
      ...lora.map((each) => ({ ...each, bytes: () => readSpan(each) })),
      ...sides.map((side) => {
        const { dtype, shape } = stored;
        return { name: names[side as 'embed'], dtype, shape, bytes: () => Promise.resolve(bytes) };
      }),
    ]);
    const config = fixtureJson(VARIANT, 'adapter-lora-start', 'adapter_config.json');
    writeFileSync(
      join(folder, 'adapter_config.json'),
      JSON.stringify({ ...config, ensure_weight_tying: tying }),
    );
    if (code !== undefined) {
      expect(await failure(folder, { base })).toMatchObject({
        code,
        message: expect.stringContaining(names[sides[0] as 'embed']) as string,
      });
    } else (await loadLlava(folder, { base })).model.dispose();
  });

  test('XTuner keeps decoder adapter and projector in folders of one', async () => {
    const folder = temporary();
    const [llm, vision] = [await made('llama'), await made('clip')];
    cpSync(await made('projector'), join(folder, 'projector'), { recursive: true });
    await expectSame(folder, { ...PARTS, llm, vision });
  });

  test.each(['projector', 'llm', 'vision', 'base', 'adapter'] as const)(
    'a fault of what is named as %s names it',
    async (part) => {
      const folder = temporary();
      writeFileSync(join(folder, 'model.safetensors'), 'none');
      const options = (name: string): LoadOptions =>
        part === 'adapter' ? { adapters: [name] } : { [part]: name };
      for (const name of [folder, join(folder, 'nowhere')]) {
        expect(await failure(fixture(VARIANT, 'hf'), options(name))).toMatchObject({
          message: expect.stringMatching(new RegExp(`^${part} ${name}: `)) as string,
        });
      }
    },
  );

  test.each([
    ['projector', 'clip'],
    ['llm', 'projector'],
    ['vision', 'llama'],
  ] as const)('a %s that is a %s is refused', async (part, layout) => {
    const options = { [part]: await made(layout) };
    expect(await failure(fixture(VARIANT, 'hf'), options)).toMatchObject({ code: 'E_PART' });
  });

  test('a tensor of a part that does not fit is named with its file', async () => {
    const projector = await made('projector', {
      edit: (each) =>
        each.name.endsWith('2.weight')
          ? { ...each, shape: [each.shape[0]! * each.shape[1]!] }
          : each,
    });
    const [llm, vision] = [await made('llama'), await made('clip')];
    expect(await failure(llm, { ...PARTS, vision, projector })).toMatchObject({
      code: 'E_TENSORS',
      message: expect.stringContaining(`in ${projector}`) as string,
    });
  });

  test('a model that has an adapter is told to have one', async () => {
    const adapters = [adapter('lora')];
    const { model, assembly } = await loadLlava(fixture(VARIANT, 'hf'), { adapters });
    expect(() => attachAdapters(model, assembly.adapters, 'float32')).toThrow(
      /_proj has an adapter already/,
    );
    model.dispose();
  });

  test('what does not fit is refused', async () => {
    const twice = { adapters: [adapter('lora'), adapter('rslora-dora')] };
    expect(await failure(fixture(VARIANT, 'hf'), twice)).toMatchObject({ code: 'E_ADAPTER' });
    const weights = { adapters: [await made('clip')] };
    expect(await failure(fixture(VARIANT, 'hf'), weights)).toMatchObject({ code: 'E_ADAPTER' });
    const folder = temporary();
    cpSync(adapter('lora'), folder, { recursive: true });
    rmSync(join(folder, 'adapter_config.json'));
    const bare = { adapters: [folder] };
    expect(await failure(fixture(VARIANT, 'hf'), bare)).toMatchObject({ code: 'E_ADAPTER_CONFIG' });
    for (const fields of [
      { peft_type: 'IA3' },
      { use_qalora: true },
      { lora_alpha: 'much' },
      { lora_dropout: 1 },
    ]) {
      writeFileSync(join(folder, 'adapter_config.json'), JSON.stringify(fields));
      expect(await failure(fixture(VARIANT, 'hf'), bare)).toMatchObject({ code: 'E_CONFIG' });
    }
  });
});

test('the type is that of the embeddings, or what is asked for', async () => {
  const bf16: LayoutChange['edit'] = (each) => {
    const high = new Uint8Array(each.bytes.length / 2).map(
      (_, i) => each.bytes[4 * (i >> 1) + 2 + (i & 1)]!,
    );
    return { ...each, dtype: 'BF16', bytes: high };
  };
  const source = await made('hf', { edit: bf16 });
  const types = (model: Llava): Set<string> =>
    new Set(model.parameters().map((parameter) => parameter.dtype));
  const stored = await loadLlava(source);
  expect([stored.dtype, types(stored.model)]).toEqual(['bfloat16', new Set(['bfloat16'])]);
  stored.model.dispose();
  const wide = await loadLlava(source, { dtype: 'float32' });
  expect(types(wide.model)).toEqual(new Set(['float32']));
  wide.model.dispose();
});

test('a decoder alone', async () => {
  const { model, assembly } = await loadTextModel(await made('llama'));
  expect(model.namedParameters().has('model.embed_tokens.weight')).toBe(true);
  expect(assembly.config.tieWordEmbeddings).toBe(true);
  model.dispose();
  expect(liveTensors()).toBe(live);
});

test('what holds a decoder and nothing else is one, whatever its family', async () => {
  const kind = async (source: string, options: AssembleOptions = {}): Promise<string> =>
    (await assembleAny(source, { ...PARTS, ...options })).kind;
  const clip = await made('clip');
  const decoder = await made('llama');
  expect(await kind(decoder)).toBe('text');
  expect(await kind(await made('llama', { config: { model_type: 'qwen2' } }))).toBe('text');
  expect(await kind(decoder, { vision: clip })).toBe('llava');
  expect(await kind(await made('hf'))).toBe('llava');
  // Its weights are those of a decoder, and its configuration speaks of a tower.
  const official = { model_type: 'llava_llama', mm_vision_tower: clip, mm_vision_select_layer: -2 };
  expect(await kind(await made('llama', { config: official }))).toBe('llava');
  await expect(kind(await made('llama', { config: { model_type: 'bert' } }))).rejects.toMatchObject(
    {
      code: 'E_CONFIG',
      message: expect.stringContaining('"bert" is no decoder that Patina computes') as unknown,
    },
  );

  const { model } = await loadModel(decoder);
  expect([model instanceof TextModel, model.input.image]).toEqual([true, null]);
  model.dispose();
});

test('progress is told, and an abort ends it', async () => {
  const told: number[] = [];
  const source = fixture(VARIANT, 'hf');
  const { model } = await loadLlava(source, {
    onProgress: (done, total) => told.push(done / total),
  });
  model.dispose();
  expect(told.at(-1)).toBe(1);
  expect(told).toEqual(told.toSorted((a, b) => a - b));
  const error = await failure(source, { signal: AbortSignal.abort() });
  expect(error).toMatchObject({ name: 'AbortError' });
});
