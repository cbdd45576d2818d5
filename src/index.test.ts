/** What the commands do can be done by the public API alone. */
import { copyFileSync, mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import sharp from 'sharp';
import { afterAll, expect, test } from 'vitest';

import {
  createFormat,
  decode,
  decodeImage,
  describeSource,
  encodeJson,
  expandImages,
  exportModel,
  findRecipe,
  fitImage,
  IMAGE_ID,
  type Llava,
  loadLlava,
  loadTokenizer,
  makeBatch,
  noGrad,
  openWeights,
  placeTensors,
  readTensorFile,
  recipes,
  resolveModel,
  scope,
  type Tensor,
  TensorsError,
  torchDType,
  weightsIn,
  writeTensorFile,
} from './index.js';

const SOURCE = fileURLToPath(new URL('../test/fixtures/llava/llama3/hf', import.meta.url));

const folders: string[] = [];
function temporary(): string {
  const folder = mkdtempSync(join(tmpdir(), 'patina-api-'));
  folders.push(folder);
  return folder;
}
afterAll(() => {
  for (const folder of folders) rmSync(folder, { recursive: true });
});

/** Logits of every position of a sample with one grey picture. */
function logits(model: Llava): Float32Array {
  const { tokenId, tokens, size } = model.input.image!;
  const inputIds = [1, ...new Array<number>(tokens).fill(tokenId), 5, 6];
  const labels = inputIds.map((id) => (id === tokenId ? -100 : id));
  const images = [new Float32Array(3 * size ** 2).fill(0.5)];
  return noGrad(() =>
    scope(() => {
      const batch = makeBatch([{ inputIds, labels, images }], model.input);
      const inputs = model.inputs(batch);
      let x: Tensor | null = null;
      for (const segment of model.segments) x = segment.forward(x, inputs);
      return model.head.logits(x!.flatten(0, 1)).toTypedArray() as Float32Array;
    }),
  );
}

test('a model is looked at, loaded, run, written and loaded again', async () => {
  const description = await describeSource(SOURCE);
  expect([description.missing, description.lacks, description.faults]).toEqual([[], [], []]);
  const { model } = await loadLlava(SOURCE);
  const expected = logits(model);
  const imageTokenId = model.input.image!.tokenId;
  model.dispose();
  for (const layout of ['hf', 'official'] as const) {
    const folder = join(temporary(), layout);
    const report = await exportModel(SOURCE, layout, folder);
    expect(report.files).toContain('config.json');
    // The official layout has no token for pictures.
    const again = await loadLlava(folder, { imageTokenId });
    expect(logits(again.model)).toEqual(expected);
    again.model.dispose();
  }
});

test('weights of any format become tensors', async () => {
  const { tensors } = await openWeights(SOURCE);
  const placements = tensors.map((stored) => ({ stored, dtype: torchDType(stored) }));
  let elements = 0;
  await placeTensors(placements, 'cpu', (tensor, i) => {
    expect(tensor.shape).toEqual(tensors[i]!.shape);
    elements += tensor.numel;
    tensor.dispose();
  });
  const { parts } = await describeSource(SOURCE);
  const parameters = Object.values(parts).map((part) => part.parameters);
  expect(elements).toBe(parameters.reduce((a, b) => a + b));
});

test('what does not fit is told by name, in a class that a program can catch', async () => {
  const tensors = await readTensorFile(join(SOURCE, 'model.safetensors'));
  const rest = new Map(tensors);
  expect(rest.delete('language_model.lm_head.weight')).toBe(true);
  const folder = temporary();
  copyFileSync(join(SOURCE, 'config.json'), join(folder, 'config.json'));
  await writeTensorFile(join(folder, 'model.safetensors'), rest);
  for (const tensor of tensors.values()) tensor.dispose();
  const error: unknown = await loadLlava(folder).catch((reason: unknown) => reason);
  expect(error).toBeInstanceOf(TensorsError);
  const { faults } = error as TensorsError;
  expect(faults).toEqual([expect.objectContaining({ kind: 'missing', name: 'lm_head.weight' })]);
});

test('a record is encoded, and its tokens are read again', async () => {
  const folder = fileURLToPath(new URL('./recipes/quickstart/tokenizer', import.meta.url));
  const tokenizer = await loadTokenizer(await resolveModel(await weightsIn(folder)));
  const outcome = encodeJson(
    {
      image: 'a.png',
      conversations: [
        { from: 'human', value: '<image>\nWhat colour?' },
        { from: 'gpt', value: 'It is red.' },
      ],
    },
    { format: createFormat(tokenizer) },
  );
  if (outcome.status !== 'sample') throw new Error(outcome.status);
  const { sample } = outcome;
  expect(sample.images).toEqual(['a.png']);
  const learned = sample.labels.filter((id) => id >= 0);
  expect(decode(tokenizer, learned)).toBe('It is red.');
  const expanded = expandImages(sample, { imageTokens: 4, imageTokenId: 7 });
  expect(expanded.inputIds).toHaveLength(sample.inputIds.length + 3);
  expect(expanded.inputIds).not.toContain(IMAGE_ID);
});

test('a picture is decoded and fitted', async () => {
  const create = { width: 6, height: 2, channels: 3, background: '#c80000' } as const;
  const file = await sharp({ create }).png().toBuffer();
  const image = await decodeImage(file, { name: 'red' });
  expect(fitImage(image, { size: 2, mode: 'crop' }).data).toEqual(
    Uint8Array.from([200, 0, 0, 200, 0, 0, 200, 0, 0, 200, 0, 0]),
  );
});

test('a built-in recipe is found, and changed', async () => {
  const name = 'llava-llama-3-8b-lora';
  expect(Object.keys(recipes)).toContain(name);
  expect(await findRecipe(name, { set: ['batchSize=4'] })).toMatchObject({ name, batchSize: 4 });
});
