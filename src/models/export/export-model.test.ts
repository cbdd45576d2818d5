import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { readSafetensors } from '../../formats/safetensors/header.js';
import { liveTensors, tensorsIn } from '../../torch/index.js';
import { loadLlava } from '../load/load.js';
import { readTensorFile } from '../load/tensor-file.js';
import {
  fixture,
  fixtureJson,
  logitsOf,
  sameNumbers,
  storedBatch,
  temporaryFolder,
  writeLayout,
  type LayoutChange,
} from '../testing.js';
import type { LayoutName } from '../../formats/layouts/tables.js';
import { exportModel } from './export-model.js';
import type { ExportOptions, ExportReport } from './export-options.js';

const VARIANT = 'llama3';
const TEXT_FILES = [
  'tokenizer.json',
  'tokenizer_config.json',
  'chat_template.jinja',
  'generation_config.json',
];
const SMALL = 'llama31-tied-small';

const root = temporaryFolder();
const live = liveTensors();
let number = 0;
afterAll(() => {
  rmSync(root, { recursive: true });
  // Fewer where the garbage of an earlier file in this process was collected meanwhile.
  expect(liveTensors()).toBeLessThanOrEqual(live);
});

const out = (): string => join(root, String(number++));

/** The weights of the stored model in a layout, with its tokenizer and its image processor where they belong. */
async function made(layout: LayoutName, change: LayoutChange = {}): Promise<string> {
  const folder = out();
  const written = await writeLayout(VARIANT, layout, change);
  cpSync(written, folder, { recursive: true });
  rmSync(written, { recursive: true });
  if (layout.startsWith('hf') || layout === 'llama') {
    for (const name of TEXT_FILES) cpSync(fixture(VARIANT, 'hf', name), join(folder, name));
  }
  if (layout.startsWith('hf')) {
    cpSync(fixture(VARIANT, 'hf', 'processor_config.json'), join(folder, 'processor_config.json'));
  }
  if (layout.startsWith('clip')) preprocessor(folder);
  return folder;
}

/** Puts the stored image processor into a file of its own, as CLIP has it. */
function preprocessor(folder: string, change: object = {}): void {
  const { image_processor: image } = fixtureJson(VARIANT, 'hf', 'processor_config.json');
  const content = JSON.stringify({ ...(image as object), ...change });
  writeFileSync(join(folder, 'preprocessor_config.json'), content);
}

async function exported(
  source: string,
  options: ExportOptions & { to?: 'hf' | 'official' | 'peft' | 'gguf' } = {},
): Promise<{ folder: string; report: ExportReport }> {
  const folder = out();
  const { to = 'hf', ...rest } = options;
  return { folder, report: await exportModel(source, to, folder, rest) };
}

const json = (folder: string, name: string): Record<string, unknown> =>
  JSON.parse(readFileSync(join(folder, name), 'utf8')) as Record<string, unknown>;

function expectSameFolders(folder: string, other: string): void {
  const names = readdirSync(other).sort();
  expect(readdirSync(folder).sort()).toEqual(names);
  for (const name of names) {
    const [a, b] = [folder, other].map((each) => readFileSync(join(each, name)));
    expect(a!.equals(b!), name).toBe(true);
  }
}

describe('every layout becomes the very files that transformers wrote', () => {
  test.each(['hf', 'hf-old', 'hf-2025', 'hf-2026'] as const)('%s', async (layout) => {
    const { folder } = await exported(await made(layout));
    expectSameFolders(folder, fixture(VARIANT, 'hf'));
  });

  const tiled = ['next-llama3', 'onevision-qwen2'];
  describe.each(tiled)('with tiles: %s', (variant) => {
    test.each(['hf', 'hf-2025', 'hf-2026'] as const)('%s', async (layout) => {
      const source = await writeLayout(variant, layout);
      for (const name of [...TEXT_FILES, 'processor_config.json']) {
        cpSync(fixture(variant, 'hf', name), join(source, name));
      }
      const { folder } = await exported(source);
      expectSameFolders(folder, fixture(variant, 'hf'));
      rmSync(source, { recursive: true });
    });
  });

  test('what a LLaVA-OneVision says about videos is handed on, or as transformers has it', async () => {
    const { folder: whole } = await exported(fixture('onevision-qwen2', 'hf'));
    const source = await writeLayout('onevision-qwen2', 'hf');
    for (const name of TEXT_FILES) cpSync(join(whole, name), join(source, name));
    const written = JSON.parse(
      readFileSync(join(whole, 'processor_config.json'), 'utf8'),
    ) as Record<'image_processor' | 'video_processor', object>;
    const write = (name: string, json: object): void => {
      writeFileSync(join(source, name), JSON.stringify(json));
    };
    write('preprocessor_config.json', written.image_processor);
    // Without a word about videos they are prepared as pictures are.
    expectSameFolders((await exported(source)).folder, whole);
    write('video_preprocessor_config.json', { ...written.video_processor, do_sample_frames: true });
    const { folder } = await exported(source);
    expect(JSON.parse(readFileSync(join(folder, 'processor_config.json'), 'utf8'))).toEqual({
      ...written,
      video_processor: { ...written.video_processor, do_sample_frames: true },
    });
    rmSync(source, { recursive: true });
  });

  test.each(
    tiled.flatMap((variant) => [[variant, 'official'] as const, [variant, 'gguf'] as const]),
  )('%s is not written as %s', async (variant, to) => {
    await expect(exported(fixture(variant, 'hf'), { to })).rejects.toMatchObject({
      code: 'E_LAYOUT_LIMIT',
      message: expect.stringMatching(/in tiles|SigLIP/) as string,
      hint: expect.stringContaining('--to hf') as string,
    });
  });

  test('official, with the tower beside it and the tokenizer of the decoder', async () => {
    const source = await made('official');
    cpSync(await made('clip'), join(source, 'tower'), { recursive: true });
    const { folder } = await exported(source, { llm: await made('llama') });
    expectSameFolders(folder, fixture(VARIANT, 'hf'));
  });

  test("parts, and XTuner's checkpoint over parts", async () => {
    const [llm, vision, projector] = [
      await made('llama'),
      await made('clip'),
      await made('projector'),
    ];
    expectSameFolders((await exported(llm, { vision, projector })).folder, fixture(VARIANT, 'hf'));
    const checkpoint = await made('xtuner');
    rmSync(join(checkpoint, 'config.json'));
    const { folder } = await exported(checkpoint, { llm, vision });
    expectSameFolders(folder, fixture(VARIANT, 'hf'));
  });

  test("XTuner's checkpoint means layer -2 and `default`, whatever its parts say", async () => {
    const checkpoint = await made('xtuner');
    rmSync(join(checkpoint, 'config.json'));
    const change = { vision_feature_layer: -1, vision_feature_select_strategy: 'full' };
    const llm = await made('hf', { config: change });
    expectSameFolders((await exported(checkpoint, { llm })).folder, fixture(VARIANT, 'hf'));
    const chosen = await exported(checkpoint, { llm, featureLayer: -1 });
    expect(json(chosen.folder, 'config.json')).toMatchObject({ vision_feature_layer: -1 });
  });

  test('files of a source that may not be written are no such files here', async () => {
    const source = await made('hf');
    chmodSync(join(source, 'tokenizer.json'), 0o444);
    const { folder } = await exported(source);
    expect(statSync(join(folder, 'tokenizer.json')).mode & 0o200).toBe(0o200);
  });

  test('by way of the official layout', async () => {
    const { folder: official } = await exported(fixture(VARIANT, 'hf'), { to: 'official' });
    expect(json(official, 'config.json')).toMatchObject({
      model_type: 'llava_llama',
      mm_vision_tower: 'vision_tower',
      mm_projector_type: 'mlp2x_gelu',
      mm_vision_select_layer: -2,
      rope_theta: 500000,
    });
    const tower = await readSafetensors(join(official, 'vision_tower', 'model.safetensors'));
    expect(tower.tensors.every(({ name }) => name.startsWith('vision_model.'))).toBe(true);
    const { folder } = await exported(official);
    expectSameFolders(folder, fixture(VARIANT, 'hf'));
  });
});

describe('how pictures become squares goes along', () => {
  const processor = (folder: string): unknown =>
    json(folder, 'processor_config.json')['image_processor'];
  const padded = { do_pad: true, image_processor_type: 'LlavaImageProcessor' };

  test("padded, as transformers' LLaVA says it; to the official layout and back", async () => {
    const source = await made('hf');
    rmSync(join(source, 'processor_config.json'));
    preprocessor(source, padded);
    const { folder } = await exported(source);
    expect(processor(folder)).toMatchObject({ ...padded, crop_size: { height: 56, width: 56 } });
    const { folder: official } = await exported(folder, { to: 'official' });
    expect(json(official, 'config.json')['image_aspect_ratio']).toBe('pad');
    const tower = json(join(official, 'vision_tower'), 'preprocessor_config.json');
    expect(tower).toMatchObject({ image_processor_type: 'CLIPImageProcessor' });
    expect(tower).not.toHaveProperty('do_pad');
    expectSameFolders((await exported(official)).folder, folder);
  });

  test("cropped, which the authors' configuration says without `pad`", async () => {
    const { folder } = await exported(fixture(VARIANT, 'hf'), { to: 'official' });
    expect(json(folder, 'config.json')['image_aspect_ratio']).toBe('square');
  });

  test("the authors' configuration counts for the tower beneath, an adapter on top for both", async () => {
    const source = await made('official', { config: { image_aspect_ratio: 'pad' } });
    const options = { llm: await made('llama'), vision: await made('clip') };
    const { folder } = await exported(source, options);
    expect(processor(folder)).toMatchObject(padded);
    const adapter = out();
    cpSync(fixture(SMALL, 'adapter-lora-start'), adapter, { recursive: true });
    preprocessor(adapter, { size: 32, crop_size: 32 });
    const base = out();
    cpSync(fixture(SMALL, 'hf'), base, { recursive: true });
    for (const name of TEXT_FILES) cpSync(fixture(VARIANT, 'hf', name), join(base, name));
    preprocessor(base, { ...padded, size: 32, crop_size: 32 });
    const merged = await exported(adapter, { base, merge: true });
    expect(processor(merged.folder)).not.toHaveProperty('do_pad');
  });
});

test('shards and their index, read back', async () => {
  const { folder, report } = await exported(fixture(VARIANT, 'hf'), { shardBytes: 300_000 });
  expect(report.files).toContain('model.safetensors.index.json');
  expect(report.files).toContain('model-00001-of-00003.safetensors');
  expectSameFolders((await exported(folder)).folder, fixture(VARIANT, 'hf'));
});

test('another type is stated; the configuration names it', async () => {
  const { folder, report } = await exported(fixture(VARIANT, 'hf'), { dtype: 'bfloat16' });
  expect(report.notes).toEqual(['105 tensors converted from float32 to bfloat16.']);
  expect(json(folder, 'config.json')['dtype']).toBe('bfloat16');
  const { tensors } = await readSafetensors(join(folder, 'model.safetensors'));
  expect(new Set(tensors.map(({ dtype }) => dtype))).toEqual(new Set(['BF16']));
});

test('a decoder alone', async () => {
  const { folder } = await exported(await made('llama'));
  expect(json(folder, 'config.json')).toMatchObject({
    architectures: ['LlamaForCausalLM'],
    model_type: 'llama',
    rope_parameters: { rope_theta: 500000 },
  });
  expect(existsSync(join(folder, 'processor_config.json'))).toBe(false);
  await expect(exported(folder, { to: 'official' })).rejects.toMatchObject({
    code: 'E_LAYOUT_LIMIT',
  });
});

describe('tokens that are added', () => {
  /** A decoder of 510 tokens without image and padding, and a template without pictures. */
  async function bare(): Promise<string> {
    const folder = await made('llama', {
      config: { vocab_size: 510, pad_token_id: null },
      edit: (tensor) => {
        if (!/embed_tokens|lm_head/.test(tensor.name)) return tensor;
        return { ...tensor, shape: [510, 48], bytes: tensor.bytes.subarray(0, 510 * 48 * 4) };
      },
    });
    const tokenizer = json(folder, 'tokenizer.json');
    const tokens = tokenizer['added_tokens'] as { id: number }[];
    tokenizer['added_tokens'] = tokens.filter(({ id }) => id < 510);
    writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
    const config = json(folder, 'tokenizer_config.json');
    delete config['pad_token'];
    delete config['image_token'];
    writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify(config));
    rmSync(join(folder, 'generation_config.json'));
    writeFileSync(join(folder, 'chat_template.jinja'), "{{ messages[0]['content'] }}");
    return folder;
  }

  test('rows grow by seed, the old ones stay', async () => {
    const parts = { vision: await made('clip'), projector: await made('projector') };
    rmSync(join(parts.vision, 'preprocessor_config.json'));
    const templateFor = (has: (token: string) => boolean): string | undefined =>
      has('<|eot_id|>') ? "{% if c['type'] == 'image' %}<image>{% endif %}" : undefined;
    const llm = await bare();
    const { folder, report } = await exported(llm, { ...parts, templateFor });
    expect(report.notes).toEqual([
      'The token <image> was added as 510.',
      'The token <pad> was added as 511.',
      'The vocabulary grew from 510 to 512 rows; new rows were drawn around the mean of the old ones.',
      'No image processor was found: pictures are padded to squares and prepared as CLIP prepares them.',
      'The chat template gives pictures no place: one of the same form that does was written instead.',
    ]);
    expect(json(folder, 'config.json')).toMatchObject({
      image_token_index: 510,
      text_config: { vocab_size: 512, pad_token_id: 511, bos_token_id: 505 },
    });
    expect(json(folder, 'tokenizer_config.json')).toMatchObject({ pad_token: '<pad>' });
    expect(readFileSync(join(folder, 'tokenizer_config.json'), 'utf8')).toContain(
      '1000000000000000019884624838656',
    );
    const grown = await readTensorFile(join(folder, 'model.safetensors'));
    const old = await readTensorFile(fixture(VARIANT, 'hf', 'model.safetensors'));
    for (const name of [
      'language_model.model.embed_tokens.weight',
      'language_model.lm_head.weight',
    ]) {
      const [now, before] = [grown, old].map(
        (each) => each.get(name)!.toTypedArray() as Float32Array,
      );
      expect(now!.subarray(0, 510 * 48)).toEqual(before!.subarray(0, 510 * 48));
      const mean = Array.from({ length: 48 }, (_, column) => {
        let sum = 0;
        for (let row = 0; row < 510; row++) sum += before![row * 48 + column]!;
        return sum / 510;
      });
      const apart = mean.map((value, column) => Math.abs(now![510 * 48 + column]! - value));
      expect(Math.max(...apart)).toBeLessThan(0.01);
      expect(Math.max(...apart)).toBeGreaterThan(1e-5);
    }
    for (const tensor of [...grown.values(), ...old.values()]) tensor.dispose();
    expectSameFolders((await exported(llm, { ...parts, templateFor })).folder, folder);
    expectSameFolders((await exported(folder)).folder, folder);
    const other = await exported(llm, { ...parts, templateFor, seed: 1 });
    const [a, b] = [folder, other.folder].map((each) =>
      readFileSync(join(each, 'model.safetensors')),
    );
    expect(a!.equals(b!)).toBe(false);
  });
});

describe('adapters', () => {
  const adapter = (form: string): string => fixture(SMALL, `adapter-${form}-start`);
  let base: string;
  beforeAll(() => {
    base = out();
    cpSync(fixture(SMALL, 'hf'), base, { recursive: true });
    for (const name of TEXT_FILES) cpSync(fixture(VARIANT, 'hf', name), join(base, name));
  });

  async function logits(source: string, adapters: readonly string[] = []): Promise<Float32Array> {
    const { model } = await loadLlava(source, { adapters });
    const batch = await storedBatch(SMALL, 0, model.input);
    const found = logitsOf(model, batch);
    for (const tensor of tensorsIn(batch)) tensor.dispose();
    model.dispose();
    return found;
  }

  test('what a layout cannot hold is told before that adapters are not folded in', async () => {
    const source = out();
    cpSync(base, source, { recursive: true });
    const config = join(source, 'config.json');
    const json = JSON.parse(readFileSync(config, 'utf8')) as object;
    writeFileSync(config, JSON.stringify({ ...json, projector_hidden_act: 'silu' }));
    const adapters = [adapter('lora')];
    await expect(exportModel(source, 'official', out(), { adapters })).rejects.toMatchObject({
      code: 'E_LAYOUT_LIMIT',
      message: expect.stringContaining('a projector with silu') as string,
    });
    await expect(exportModel(source, 'hf', out(), { adapters })).rejects.toMatchObject({
      code: 'E_NOT_MERGED',
      hint: expect.stringMatching(/--merge.*--to peft/) as string,
    });
  });

  test.each(['lora', 'rslora-dora'])('%s folded in', async (form) => {
    await expect(exported(base, { adapters: [adapter(form)] })).rejects.toMatchObject({
      code: 'E_NOT_MERGED',
    });
    const { folder, report } = await exported(base, { adapters: [adapter(form)], merge: true });
    expect(report.notes).toEqual(['1 adapter folded in, computed in float32.', expect.anything()]);
    const expected = await logits(base, [adapter(form)]);
    const found = await logits(folder);
    const largest = Math.max(...expected.map(Math.abs));
    const apart = Math.max(...expected.map((value, i) => Math.abs(value - found[i]!)));
    expect(apart / largest).toBeLessThan(1e-5);
    expect(sameNumbers(found, await logits(base))).toBe(false);
  });

  test.each(['lora', 'rslora-dora'])("%s in PEFT's form", async (form) => {
    const { folder } = await exported(adapter(form), { to: 'peft' });
    expect(readdirSync(folder)).toEqual(['adapter_config.json', 'adapter_model.safetensors']);
    const original = fixtureJson(SMALL, `adapter-${form}-start`, 'adapter_config.json');
    const { r, lora_alpha, use_dora, use_rslora, modules_to_save } = original;
    expect(json(folder, 'adapter_config.json')).toMatchObject({
      ...{ r, lora_alpha, use_dora, use_rslora, modules_to_save },
      rank_pattern: {},
    });
    const [a, b] = [folder, adapter(form)].map((each) => join(each, 'adapter_model.safetensors'));
    expect(readFileSync(a!).equals(readFileSync(b!))).toBe(true);
    expect(sameNumbers(await logits(base, [folder]), await logits(base, [adapter(form)]))).toBe(
      true,
    );
    expectSameFolders((await exported(folder, { to: 'peft' })).folder, folder);
  });

  test("its pictures are made into squares as in training, whatever the model's own files say", async () => {
    const trained = out();
    cpSync(adapter('lora'), trained, { recursive: true });
    const file = 'preprocessor_config.json';
    writeFileSync(join(trained, file), '{ "do_pad": true }\n');
    const { folder, report } = await exported(trained, { to: 'peft' });
    expect(report.files).toContain(file);
    expect(readFileSync(join(folder, file), 'utf8')).toBe('{ "do_pad": true }\n');
  });

  test('a model without one has none to write', async () => {
    await expect(exported(base, { to: 'peft' })).rejects.toMatchObject({ code: 'E_ADAPTER' });
  });
});

describe('what cannot be written is refused and leaves nothing', () => {
  const refused = async (source: string, options: ExportOptions = {}): Promise<unknown> => {
    const before = readdirSync(root).sort();
    const error: unknown = await exported(source, options).then(
      () => undefined,
      (reason: unknown) => reason,
    );
    expect(readdirSync(root).sort()).toEqual(before);
    return error;
  };

  test('no tokenizer anywhere', async () => {
    const source = await made('hf');
    rmSync(join(source, 'tokenizer.json'));
    expect(await refused(source)).toMatchObject({ code: 'E_TOKENIZER_MISSING' });
  });

  test('a tokenizer that is none', async () => {
    const source = await made('hf');
    writeFileSync(join(source, 'tokenizer.json'), '{"model":{"vocab":{"a":-1}}}');
    expect(await refused(source)).toMatchObject({ code: 'E_TOKENIZER_BROKEN' });
  });

  test('an image token that the tokenizer lacks', async () => {
    const source = await made('hf', { config: { image_token_index: 600 } });
    expect(await refused(source)).toMatchObject({ code: 'E_IMAGE_TOKEN' });
  });

  test('pictures of another size than the tower takes', async () => {
    const source = await made('hf');
    rmSync(join(source, 'processor_config.json'));
    preprocessor(source, { crop_size: 224, size: 224 });
    expect(String(await refused(source))).toContain('56 x 56');
  });

  test('a tensor that is not finite, found while writing', async () => {
    const source = await made('hf', {
      edit: (each) => {
        if (!each.name.endsWith('linear_2.bias')) return each;
        const bytes = new Uint8Array(new Float32Array(each.shape[0]!).fill(NaN).buffer);
        return { ...each, bytes };
      },
    });
    expect(await refused(source)).toMatchObject({ code: 'E_NON_FINITE_WEIGHTS' });
    const allow = ['model.multi_modal_projector.linear_2.bias'];
    await exported(source, { allow });
  });

  test('a missing tensor, also where it is allowed', async () => {
    const source = await made('hf', {
      edit: (each) => (each.name.endsWith('linear_2.bias') ? undefined : each),
    });
    expect(await refused(source, { allow: ['model.*'] })).toMatchObject({ code: 'E_TENSORS' });
  });

  test('a folder that is there, unless it may be replaced', async () => {
    const folder = out();
    mkdirSync(folder);
    const source = fixture(VARIANT, 'hf');
    await expect(exportModel(source, 'hf', folder)).rejects.toMatchObject({ code: 'E_EXISTS' });
    await exportModel(source, 'hf', folder, { replace: true });
    expectSameFolders(folder, source);
  });

  test('a folder whose replacement would lose something', async () => {
    const folder = await made('hf');
    const options = { replace: true };
    const lost = { code: 'E_REPLACE' };
    await expect(exportModel(folder, 'hf', folder, options)).rejects.toMatchObject(lost);
    const parent = out();
    mkdirSync(join(parent, 'models'), { recursive: true });
    cpSync(folder, join(parent, 'models', 'a'), { recursive: true });
    const source = join(parent, 'models', 'a');
    await expect(exportModel(source, 'hf', parent, options)).rejects.toMatchObject(lost);
    writeFileSync(join(parent, 'config.json'), '{}');
    await expect(exportModel(source, 'hf', parent, options)).rejects.toMatchObject(lost);
    expect(existsSync(join(source, 'model.safetensors'))).toBe(true);
    expect(readdirSync(root).some((name) => name.startsWith('.'))).toBe(false);
  });

  test('an adapter without what it belongs to', async () => {
    const adapter = out();
    cpSync(fixture(SMALL, 'adapter-lora-start'), adapter, { recursive: true });
    const merge = { merge: true };
    expect(await refused(adapter, merge)).toMatchObject({ hint: /--base/ });
    const file = join(adapter, 'adapter_config.json');
    const config = { ...json(adapter, 'adapter_config.json') };
    writeFileSync(file, JSON.stringify({ ...config, base_model_name_or_path: '/no/such/model' }));
    const error = await refused(adapter, merge);
    expect(error).toMatchObject({ hint: /--base/ });
    expect(String(error)).toContain('adapter_config.json names /no/such/model');
  });

  test('a stop', async () => {
    const stop = new AbortController();
    const onProgress = (): void => stop.abort(new Error('enough'));
    const error = await refused(fixture(VARIANT, 'hf'), { signal: stop.signal, onProgress });
    expect(String(error)).toContain('enough');
  });
});
