import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { encodeSafetensors } from '../safetensors/write.js';
import { PICKLES, stateDict } from '../testing.js';
import { inspect } from './inspect.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-inspect-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** Puts a file into the folder: bytes, JSON, or safetensors of these names with one number each. */
function put(path: string, content: Uint8Array | object | readonly string[]): void {
  const target = join(folder, path);
  mkdirSync(dirname(target), { recursive: true });
  writeFileSync(target, encode(content));
}

function encode(content: Uint8Array | object | readonly string[]): Uint8Array | string {
  if (content instanceof Uint8Array) return content;
  if (!Array.isArray(content)) return JSON.stringify(content);
  const names = content as readonly string[];
  const data = new Uint8Array(2);
  return encodeSafetensors(names.map((name) => ({ name, dtype: 'BF16', shape: [1], data })));
}

const LLM = ['model.embed_tokens.weight', 'model.layers.0.mlp.up_proj.weight', 'lm_head.weight'];
const TOWER = ['vision_model.embeddings.class_embedding', 'vision_model.pre_layrnorm.weight'];
const look = (path = '') => inspect(join(folder, path));
const refused = (path = '') => expect(look(path)).rejects;

test('a stored LLaVA', async () => {
  const { sources, parts, missing } = await inspect(
    join(packageRoot(), 'test/fixtures/llava/llama3/hf'),
  );
  expect(sources.map(({ layout, isAdapter }) => [layout, isAdapter])).toEqual([['hf', false]]);
  expect(sources[0]!.config).toMatchObject({ model_type: 'llava' });
  expect(missing).toEqual([]);
  expect(parts.get('projector')).toEqual({
    tensors: 4,
    parameters: 48 * 40 + 48 + 48 * 48 + 48,
    bytes: 4 * (48 * 40 + 48 + 48 * 48 + 48),
    dtypes: ['F32'],
    isAdapter: false,
  });
});

test('a decoder with tied embeddings lacks no head', async () => {
  put('model.safetensors', LLM.slice(0, 2));
  expect((await look()).missing).toEqual(['vision', 'projector', 'head']);
  put('config.json', { model_type: 'llama', tie_word_embeddings: true });
  expect((await look()).missing).toEqual(['vision', 'projector']);
});

test("XTuner's checkpoint, as a file and in its work folder", async () => {
  const file = join(PICKLES, 'ok/xtuner_like.pth');
  const { sources, parts } = await inspect(file);
  expect(sources).toMatchObject([{ path: file, layout: 'xtuner', files: [file] }]);
  expect([...parts.keys()]).toEqual(['projector']);
  expect(sources[0]!.rest.get('meta')).toBeInstanceOf(Map);
  put('iter_7.pth', stateDict(['projector.model.2.weight'], 'state_dict'));
  expect((await look()).sources[0]!.files).toEqual([join(folder, 'iter_7.pth')]);
  put('iter_8.pth', stateDict(['projector.model.2.weight'], 'state_dict'));
  await refused().toMatchObject({
    code: 'E_NO_WEIGHTS',
    message: expect.stringMatching('iter_8') as string,
  });
});

test("DeepSpeed's checkpoint folder", async () => {
  put('iter_7.pth/mp_rank_00_model_states.pt', stateDict(['projector.model.0.bias'], 'module'));
  const { sources } = await look('iter_7.pth');
  expect([...sources[0]!.tensors.keys()]).toEqual(['model.multi_modal_projector.linear_1.bias']);
});

test("XTuner's converted folder is put together from its parts", async () => {
  put('projector/model.safetensors', ['model.0.weight', 'model.2.weight']);
  put('projector/config.json', { model_type: 'projector' });
  put(
    'visual_encoder_adapter/adapter_model.bin',
    stateDict(['base_model.model.vision_model.encoder.layers.0.mlp.fc1.lora_A.weight']),
  );
  put('visual_encoder_adapter/adapter_config.json', { r: 64, lora_alpha: 16 });
  put('xtuner_config.py', new Uint8Array());
  const adapterOnly = await look();
  expect(adapterOnly.sources.map(({ layout }) => layout)).toEqual(['projector', 'clip']);
  expect(adapterOnly.missing).toEqual(['decoder', 'head']);
  put('model.safetensors', LLM);
  const { sources, parts, missing } = await look();
  expect(sources.map(({ layout }) => layout)).toEqual(['llama', 'projector', 'clip']);
  expect(sources[2]!.config).toEqual({ r: 64, lora_alpha: 16 });
  expect(missing).toEqual([]);
  expect(parts.get('vision')!.isAdapter).toBe(true);
  expect(parts.get('decoder')!.isAdapter).toBe(false);
});

test("the authors' adapter keeps the projector in a second file", async () => {
  put(
    'adapter_model.bin',
    stateDict(['base_model.model.model.layers.0.mlp.up_proj.lora_A.weight']),
  );
  put('adapter_config.json', { r: 128 });
  put('non_lora_trainables.bin', stateDict(['base_model.model.model.mm_projector.0.weight']));
  const { sources, parts } = await look();
  expect(sources.map(({ layout, isAdapter }) => [layout, isAdapter])).toEqual([
    ['llama', true],
    ['official', false],
  ]);
  expect([...parts.keys()]).toEqual(['projector', 'decoder']);
});

describe('shards', () => {
  beforeEach(() => {
    put('pytorch_model-00001-of-00002.bin', stateDict(TOWER));
    put('pytorch_model-00002-of-00002.bin', stateDict(['logit_scale']));
  });
  const index = (map: Record<string, string>): void =>
    put('pytorch_model.bin.index.json', { metadata: {}, weight_map: map });
  const [one, two] = ['pytorch_model-00001-of-00002.bin', 'pytorch_model-00002-of-00002.bin'];

  test('are one set of weights', async () => {
    index({ [TOWER[0]!]: one, [TOWER[1]!]: one, logit_scale: two });
    const [source] = (await look()).sources;
    expect(source).toMatchObject({ layout: 'clip', unexpected: [] });
    expect([...source!.ignored.keys()]).toEqual(['logit_scale']);
    expect(source!.files).toHaveLength(2);
  });

  test('that contradict their index are refused', async () => {
    index({ [TOWER[0]!]: one, [TOWER[1]!]: two, logit_scale: two });
    await refused().toMatchObject({ code: 'E_WEIGHT_INDEX' });
  });

  test('that are missing are named', async () => {
    index({ [TOWER[0]!]: one, [TOWER[1]!]: one, logit_scale: 'gone.bin' });
    await refused().toMatchObject({
      code: 'E_WEIGHT_INDEX',
      message: expect.stringMatching(/index\.json names gone\.bin, which is not there/) as string,
    });
  });
});

describe('what is nothing', () => {
  test('a folder without weights, a path without anything', async () => {
    put('config.json', { model_type: 'llava' });
    await refused().toMatchObject({ code: 'E_NO_WEIGHTS' });
    await refused('none').toMatchObject({ code: 'E_FILE_MISSING' });
    await refused('config.json/x').toMatchObject({ code: 'E_FILE_MISSING' });
  });

  test('weights of something else', async () => {
    put('model.safetensors', ['bert.encoder.weight']);
    await refused().toMatchObject({
      code: 'E_LAYOUT',
      message: expect.stringMatching('bert') as string,
    });
  });

  test('a damaged file is one of the kind that its name says', async () => {
    put('model.safetensors', new TextEncoder().encode('damaged'));
    await refused().toMatchObject({ code: 'E_SAFETENSORS' });
    put('model.safetensors', new Uint8Array());
    await refused().toMatchObject({
      message: expect.stringMatching('not a safetensors file') as string,
    });
  });

  test('a checkpoint without a state dict', async () => {
    await expect(inspect(join(PICKLES, 'ok/nested_plain.pt'))).rejects.toMatchObject({
      code: 'E_NO_WEIGHTS',
    });
    await expect(inspect(join(PICKLES, 'refuse/exec_eval.pt'))).rejects.toMatchObject({
      code: 'E_PICKLE_GLOBAL',
    });
  });

  test('a configuration that is no object', async () => {
    put('model.safetensors', LLM);
    put('config.json', new Uint8Array([0x5b, 0x5d]));
    await refused().toMatchObject({ code: 'E_JSON' });
  });
});
