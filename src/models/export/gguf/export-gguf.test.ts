import { cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { packageRoot } from '../../../base/native-path.js';
import { openWeights } from '../../../formats/weights.js';
import { readGguf, type GgufTensor } from '../../../formats/gguf/read.js';
import { encodeSafetensors } from '../../../formats/safetensors/write.js';
import { readSafetensors } from '../../../formats/safetensors/header.js';
import { readDense } from '../../../formats/stored.js';
import { liveTensors } from '../../../torch/index.js';
import { fixture, fixtureJson, temporaryFolder } from '../../testing.js';
import { exportModel } from '../export-model.js';
import type { ExportOptions, GgufSpeaker } from '../export-options.js';

const SMALL = 'llama31-tied-small';
const root = temporaryFolder();
const live = liveTensors();
let number = 0;
afterAll(() => {
  rmSync(root, { recursive: true });
  expect(liveTensors()).toBeLessThanOrEqual(live);
});
const out = (): string => join(root, String(number++));

const speak: GgufSpeaker = () =>
  Promise.resolve({
    metadata: new Map(),
    modelfile: ['PARAMETER stop "x"'],
    probe: () => Promise.resolve(['It was asked.']),
    notes: [],
  });

async function exported(source: string, options: ExportOptions = {}) {
  const folder = out();
  const report = await exportModel(source, 'gguf', folder, { speak, check: true, ...options });
  const files = new Map<string, Awaited<ReturnType<typeof readGguf>>>();
  for (const name of report.files.filter((each) => each.endsWith('.gguf'))) {
    files.set(name.split('-')[0]!, await readGguf(join(folder, name)));
  }
  return { folder, report, model: files.get('model')!, mmproj: files.get('mmproj') };
}

/** A stored model with a tokenizer beside it, whose projector sees patches alone. */
function made(variant: string): string {
  const folder = out();
  cpSync(fixture(variant, 'hf'), folder, { recursive: true });
  cpSync(fixture('llama3', 'hf', 'tokenizer.json'), join(folder, 'tokenizer.json'));
  const config = fixtureJson(variant, 'hf', 'config.json');
  const change = { vision_feature_select_strategy: 'default' };
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, ...change }));
  return folder;
}

const named = (tensors: readonly GgufTensor[], name: string): GgufTensor =>
  tensors.find((each) => each.name === name)!;

const value = (file: Awaited<ReturnType<typeof readGguf>>, key: string): unknown => {
  const found = file.metadata.get(key)!;
  return found.type === 'array' ? found.values : found.value;
};

/** Numbers of a tensor in fp32. */
function numbers({ file, offset, bytes }: GgufTensor): Float32Array {
  return new Float32Array(readFileSync(file).buffer.slice(offset, offset + bytes));
}

describe('the files of a LLaVA', () => {
  let source: string;
  beforeAll(() => (source = made('llama3')));

  test('hold its tensors under the names of llama.cpp', async () => {
    const { folder, model, mmproj, report } = await exported(source);
    expect(readdirSync(folder)).toEqual(['Modelfile', 'mmproj-f16.gguf', 'model-f16.gguf']);
    expect(readFileSync(join(folder, 'Modelfile'), 'utf8')).toBe(
      '# ollama create NAME -f Modelfile\nFROM ./model-f16.gguf\nFROM ./mmproj-f16.gguf\nPARAMETER stop "x"\n',
    );
    expect(report.notes).toContain('It was asked.');
    for (const given of [folder, join(folder, 'model-f16.gguf')]) {
      const hint = expect.stringContaining('name the model that they were made from') as string;
      await expect(openWeights(given)).rejects.toMatchObject({ exitCode: 4, hint });
    }
    expect(report.checked?.map(({ tensors }) => tensors)).toEqual([30, 57]);
    expect(named(model.tensors, 'blk.2.ffn_down.weight')).toMatchObject({
      type: 'f16',
      shape: [48, 112],
    });
    expect(named(model.tensors, 'output_norm.weight').type).toBe('f32');
    expect(value(model, 'llama.attention.head_count_kv')).toBe(2);
    const { tensors } = mmproj!;
    expect(named(tensors, 'v.patch_embd.weight')).toMatchObject({
      type: 'f32',
      shape: [40, 3, 14, 14],
    });
    expect(named(tensors, 'mm.2.weight')).toMatchObject({ type: 'f16', shape: [48, 48] });
    // Of four blocks the layer before the last is read, and nothing behind it is written.
    expect(value(mmproj!, 'clip.vision.feature_layer')).toEqual([3]);
    expect(tensors.filter(({ name }) => name.endsWith('.ln1.weight'))).toHaveLength(3);
    expect(tensors.some(({ name }) => name.startsWith('v.post_ln'))).toBe(false);
  });

  test('a decoder alone has one file', async () => {
    const folder = out();
    mkdirSync(folder);
    const tensors = (await readSafetensors(join(source, 'model.safetensors'))).tensors.filter(
      ({ name }) => name.startsWith('language_model.'),
    );
    const content = await Promise.all(
      tensors.map(async (each) => ({
        ...each,
        name: each.name.replace('language_model.', ''),
        data: await readDense(each, 2 ** 20),
      })),
    );
    writeFileSync(join(folder, 'model.safetensors'), encodeSafetensors(content));
    const config = fixtureJson('llama3', 'hf', 'config.json')['text_config'];
    writeFileSync(join(folder, 'config.json'), JSON.stringify(config));
    cpSync(join(source, 'tokenizer.json'), join(folder, 'tokenizer.json'));
    const { report, model } = await exported(folder, { ggufType: 'bf16' });
    expect(report.files).toEqual(['Modelfile', 'model-bf16.gguf']);
    expect(value(model, 'general.file_type')).toBe(32);
  });

  test('rows that blocks do not fill stay in f16, which is told', async () => {
    const { model, report } = await exported(source, { ggufType: 'q8_0' });
    expect(new Set(model.tensors.map(({ type }) => type))).toEqual(new Set(['f16', 'f32']));
    expect(report.notes).toContain(
      '23 matrices with rows that blocks of 32 do not fill stayed in f16.',
    );
  });

  test('what llama.cpp does not compute is refused', async () => {
    const changed = made('llama3');
    const config = fixtureJson('llama3', 'hf', 'config.json');
    for (const change of [
      { vision_feature_select_strategy: 'full' },
      { projector_hidden_act: 'quick_gelu' },
      { text_config: { ...(config['text_config'] as object), hidden_act: 'gelu' } },
      { vision_feature_layer: 0 },
    ]) {
      writeFileSync(join(changed, 'config.json'), JSON.stringify({ ...config, ...change }));
      const folder = out();
      await expect(exportModel(changed, 'gguf', folder, { speak })).rejects.toMatchObject({
        code: 'E_LAYOUT_LIMIT',
      });
    }
    await expect(exportModel(fixture(SMALL, 'hf'), 'gguf', out(), { speak })).rejects.toMatchObject(
      { code: 'E_TOKENIZER_MISSING' },
    );
  });

  test('a new export takes the place of an old one, and of nothing else', async () => {
    const { folder } = await exported(source);
    const again = { speak, replace: true };
    await exportModel(source, 'gguf', folder, { ...again, ggufType: 'bf16' });
    expect(readdirSync(folder)).toContain('model-bf16.gguf');
    rmSync(join(folder, 'Modelfile'));
    await expect(exportModel(source, 'gguf', folder, again)).rejects.toMatchObject({
      code: 'E_REPLACE',
    });
  });

  test('numbers beyond the range of f16 are refused, and no folder is left', async () => {
    const large = made('llama3');
    const path = join(large, 'model.safetensors');
    const { tensors } = await readSafetensors(path);
    const bytes = readFileSync(path);
    bytes.writeFloatLE(1e5, tensors.find(({ name }) => name.endsWith('q_proj.weight'))!.offset);
    writeFileSync(path, bytes);
    const folder = out();
    await expect(exportModel(large, 'gguf', folder, { speak })).rejects.toMatchObject({
      code: 'E_NON_FINITE_WEIGHTS',
    });
    expect(() => readdirSync(folder)).toThrow();
    await exported(large, { ggufType: 'bf16' });
  });
});

describe('a LLaVA with a SigLIP tower', () => {
  const source = fixture('siglip-qwen3', 'hf');

  test('has no class token, patches with a bias, and nothing of its pooling head', async () => {
    const { mmproj, report } = await exported(source);
    const { tensors } = mmproj!;
    const embeddings = tensors.map(({ name }) => name).filter((name) => !/blk|mm/.test(name));
    expect(embeddings.sort()).toEqual([
      'v.patch_embd.bias',
      'v.patch_embd.weight',
      'v.position_embd.weight',
    ]);
    expect(named(tensors, 'v.patch_embd.bias').type).toBe('f32');
    expect(value(mmproj!, 'clip.use_gelu')).toBe(true);
    expect(value(mmproj!, 'clip.vision.feature_layer')).toEqual([2]);
    expect(tensors.filter(({ name }) => name.endsWith('.ln1.weight'))).toHaveLength(2);
    expect(report.notes.join('\n')).toContain('it pads them to squares');
    expect(report.notes.join('\n')).not.toContain('#25814');
  });

  test('whose projector does not see the first patch is refused', async () => {
    const changed = out();
    cpSync(source, changed, { recursive: true });
    const config = fixtureJson('siglip-qwen3', 'hf', 'config.json');
    const change = { vision_feature_select_strategy: 'default' };
    writeFileSync(join(changed, 'config.json'), JSON.stringify({ ...config, ...change }));
    await expect(exportModel(changed, 'gguf', out(), { speak })).rejects.toMatchObject({
      code: 'E_LAYOUT_LIMIT',
      message:
        'llama.cpp does not compute a projector that does not see the first patch of SigLIP.',
    });
  });
});

describe('a decoder with scaled positions, tied embeddings and rows of whole blocks', () => {
  test.each([
    ['q8_0', 0.01, 'q8_0'],
    ['q4_0', 0.15, 'q4_0'],
  ] as const)('in %s', async (ggufType, most, matrices) => {
    const { model, report } = await exported(made(SMALL), { ggufType });
    // The matrix to the vocabulary is never in 4 bits.
    expect(named(model.tensors, 'token_embd.weight').type).toBe('q8_0');
    expect(named(model.tensors, 'output.weight')).toBeUndefined();
    expect(named(model.tensors, 'blk.0.attn_q.weight').type).toBe(matrices);
    const { relativeErrors } = report.checked![0]!;
    expect(relativeErrors[ggufType]).toBeGreaterThan(most / 10);
    expect(relativeErrors[ggufType]).toBeLessThan(most);
  });

  test('frequencies come as the factors that divide them', async () => {
    const { model } = await exported(made(SMALL));
    const rotary = (fixtureJson(SMALL, 'hf', 'config.json')['text_config'] as never)[
      'rope_parameters'
    ] as { factor: number };
    const factors = [...numbers(named(model.tensors, 'rope_freqs.weight'))];
    expect(factors[0]).toBe(1);
    expect(factors.every((each) => each >= 1 && each <= rotary.factor * 1.000001)).toBe(true);
  });

  test('adapters are folded in', async () => {
    const adapter = fixture(SMALL, 'adapter-rslora-dora-start');
    const { model, report } = await exported(adapter, { base: made(SMALL) });
    expect(report.notes).toContain('1 adapter folded in, computed in float32.');
    expect(model.tensors.some(({ name }) => name.includes('lora'))).toBe(false);
  });
});

test('matrices in NF4 become dense', async () => {
  const folder = out();
  cpSync(join(packageRoot(), 'test', 'fixtures', 'nf4', 'checkpoint'), folder, { recursive: true });
  cpSync(fixture('llama3', 'hf', 'tokenizer.json'), join(folder, 'tokenizer.json'));
  const { model } = await exported(folder, { ggufType: 'q8_0' });
  expect(named(model.tensors, 'blk.0.ffn_up.weight').type).toBe('q8_0');
});
