/** LLaVAs with SigLIP's tower: every way in, and the way out. What they compute is held by `parity/llava.test.ts`. */
import { cpSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from 'vitest';

import type { LayoutName } from '../formats/layouts/tables.js';
import { readSafetensors } from '../formats/safetensors/header.js';
import { tensorsIn } from '../torch/index.js';
import { exportModel } from './export/export-model.js';
import { loadLlava, type LoadOptions } from './load/load.js';
import {
  fixture,
  fixtureJson,
  logitsOf,
  sameNumbers,
  storedBatch,
  temporaryFolder,
  writeLayout,
  type LayoutChange,
  type WrittenTensor,
} from './testing.js';

/** Its tower is stored with the head that pools the patches; the embeddings are not tied. */
const WITH_HEAD = 'siglip-qwen3';
const VARIANTS = ['siglip-qwen2', WITH_HEAD];
const IMAGE_TOKEN = 264;

const folders: string[] = [];
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});
const temporary = (): string => {
  const folder = temporaryFolder();
  folders.push(folder);
  return folder;
};
const made = async (
  variant: string,
  layout: LayoutName,
  change: LayoutChange = {},
): Promise<string> => {
  const folder = await writeLayout(variant, layout, change);
  folders.push(folder);
  return folder;
};

async function logits(
  variant: string,
  source: string,
  options: LoadOptions = {},
): Promise<Float32Array> {
  const { model } = await loadLlava(source, options);
  const batch = await storedBatch(variant, 0, model.input);
  const found = logitsOf(model, batch);
  for (const tensor of tensorsIn(batch)) tensor.dispose();
  model.dispose();
  return found;
}

const tensor = (name: string): WrittenTensor => ({
  name,
  dtype: 'F32',
  shape: [1],
  bytes: new Uint8Array(4),
});

/** A whole SigLIP, as its authors' repositories hold it. */
async function wholeSiglip(variant: string): Promise<string> {
  const names = ['text_model.head.weight', 'logit_scale', 'logit_bias'];
  const folder = await made(variant, 'clip', { add: names.map(tensor) });
  const { vision_config: vision } = fixtureJson(variant, 'hf', 'config.json');
  const json = { model_type: 'siglip', text_config: {}, vision_config: vision };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(json));
  const { image_processor: image } = fixtureJson(variant, 'hf', 'processor_config.json');
  writeFileSync(join(folder, 'preprocessor_config.json'), JSON.stringify(image));
  return folder;
}

describe.each(VARIANTS)('%s', (variant) => {
  const layer = fixtureJson(variant, 'hf', 'config.json')['vision_feature_layer'] as number;

  test.each(['hf-old', 'hf-2025', 'hf-2026'] as const)(
    'loads from %s to the same bits',
    async (layout) => {
      const expected = await logits(variant, fixture(variant, 'hf'));
      expect(sameNumbers(await logits(variant, await made(variant, layout)), expected)).toBe(true);
    },
  );

  test('is put together from a decoder, a whole SigLIP and a projector, which sees all patches', async () => {
    const expected = await logits(variant, fixture(variant, 'hf'));
    const [llm, vision, projector] = [
      await made(variant, 'llama'),
      await wholeSiglip(variant),
      await made(variant, 'projector'),
    ];
    const options = { vision, projector, featureLayer: layer, imageTokenId: IMAGE_TOKEN };
    expect(sameNumbers(await logits(variant, llm, options), expected)).toBe(true);
  });

  test('is written as transformers writes it', async () => {
    const folder = join(temporary(), 'out');
    await exportModel(fixture(variant, 'hf'), 'hf', folder);
    const json = (path: string): unknown => JSON.parse(readFileSync(path, 'utf8'));
    const written = json(join(folder, 'config.json'));
    const theirs = fixtureJson(variant, 'hf', 'config.json');
    expect(written).toEqual(theirs);
    expect(readdirSync(folder).sort()).toEqual(readdirSync(fixture(variant, 'hf')).sort());
    for (const name of ['processor_config.json', 'tokenizer.json', 'chat_template.jinja']) {
      const [a, b] = [join(folder, name), fixture(variant, 'hf', name)];
      expect(readFileSync(a).equals(readFileSync(b)), name).toBe(true);
    }
    const names = async (path: string): Promise<string[]> =>
      (await readSafetensors(join(path, 'model.safetensors'))).tensors.map((each) => each.name);
    expect(await names(folder)).toEqual(await names(fixture(variant, 'hf')));
    const expected = await logits(variant, fixture(variant, 'hf'));
    expect(sameNumbers(await logits(variant, folder), expected)).toBe(true);
  });
});

describe('the head that pools the patches', () => {
  test('is there where its weights are, whatever the configuration says', async () => {
    const vision = fixtureJson(WITH_HEAD, 'hf', 'config.json')['vision_config'] as object;
    const says = (head: boolean) => ({
      vision_config: { ...vision, vision_use_head: head },
    });
    const without: LayoutChange['edit'] = (each) =>
      /^vision_tower\.head\./.test(each.name) ? undefined : each;
    for (const [change, expected] of [
      [{ config: says(false) }, true],
      [{ config: says(true), edit: without }, false],
    ] as const) {
      const { model } = await loadLlava(await made(WITH_HEAD, 'hf', change));
      expect(model.config.vision.poolingHead).toBe(expected);
      model.dispose();
    }
  });

  test('is missing where a part of it is', async () => {
    const edit: LayoutChange['edit'] = (each) =>
      each.name === 'vision_tower.head.mlp.fc1.bias' ? undefined : each;
    await expect(loadLlava(await made(WITH_HEAD, 'hf', { edit }))).rejects.toMatchObject({
      code: 'E_TENSORS',
      message: expect.stringContaining('head.mlp.fc1.bias') as string,
    });
  });
});

test('pictures are prepared as its processor says, else as SigLIP is trained', async () => {
  const parts = {
    vision: await wholeSiglip(WITH_HEAD),
    projector: await made(WITH_HEAD, 'projector'),
  };
  const llm = await made(WITH_HEAD, 'llama');
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'chat_template.jinja']) {
    cpSync(fixture(WITH_HEAD, 'hf', name), join(llm, name));
  }
  const processor = fixtureJson(WITH_HEAD, 'hf', 'processor_config.json');
  const written = async (): Promise<[unknown, readonly string[]]> => {
    const folder = join(temporary(), 'out');
    const { notes } = await exportModel(llm, 'hf', folder, parts);
    return [JSON.parse(readFileSync(join(folder, 'processor_config.json'), 'utf8')), notes];
  };
  const [found, none] = await written();
  expect(found).toEqual(processor);
  expect(none.join('\n')).not.toContain('image processor');
  rmSync(join(parts.vision, 'preprocessor_config.json'));
  const [usual, notes] = await written();
  expect(usual).toEqual(processor);
  expect(notes).toContain(
    'No image processor was found: pictures are prepared as SigLIP prepares them.',
  );
});

test("the authors' code knows no such tower", async () => {
  await expect(
    exportModel(fixture(WITH_HEAD, 'hf'), 'official', join(temporary(), 'out')),
  ).rejects.toMatchObject({
    code: 'E_LAYOUT_LIMIT',
    message: expect.stringContaining('a SigLIP tower') as string,
  });
});
