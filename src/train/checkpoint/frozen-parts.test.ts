/** A run that goes on with other parts in training than before, or with tensors in its checkpoint that nobody reads. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import type { RecipeInput } from '../../config/index.js';
import { readSafetensors } from '../../formats/safetensors/header.js';
import { writeSafetensors } from '../../formats/safetensors/write.js';
import { readSpan } from '../../formats/stored.js';
import { exportModel, readTensorFile } from '../../models/index.js';
import { ALONE } from '../../parallel/index.js';
import type { TrainEvent } from '../events.js';
import { weightsIn } from '../run/run-weights.js';
import { all, startOf } from '../testing-events.js';
import { ColourFolder, TINY_CONFIG } from '../testing-files.js';
import { resumeRun, train, type ResumeOptions } from '../train.js';
import { hashFolder, MANIFEST } from './manifest.js';

let folder: ColourFolder;
let base: string;
beforeAll(async () => {
  folder = await ColourFolder.make();
  base = await weightsIn(await begin({ run: { root: folder.at('base') } }));
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

/** A run after three updates. */
async function begin(more: Partial<RecipeInput>): Promise<string> {
  const events = await all(
    train(folder.recipe({ optimizer: { learningRate: 3e-2 }, ...more }), { maxUpdates: 3 }),
  );
  return (events.at(-1) as { run: string }).run;
}

const saidOf = (events: readonly TrainEvent[]): string => startOf(events).statements.join('\n');

/** Goes on for an update. */
const goOn = (run: string, set: string[], options: ResumeOptions = {}): Promise<TrainEvent[]> =>
  all(resumeRun(run, { set, maxUpdates: 4, ...options }));

/** The model that a run has left, adapters folded in, by the beginning of its parts' names. */
async function leftBy(run: string): Promise<Record<'vision' | 'projector' | 'decoder', number[]>> {
  const out = folder.at('out');
  await exportModel(await weightsIn(run), 'hf', out, { merge: true });
  const parts = { vision: [] as number[], projector: [] as number[], decoder: [] as number[] };
  for (const [name, tensor] of await readTensorFile(join(out, 'model.safetensors'))) {
    const values = tensor.toTypedArray() as Float32Array;
    const part = /vision_tower/.test(name)
      ? 'vision'
      : /projector/.test(name)
        ? 'projector'
        : 'decoder';
    for (const value of values) parts[part].push(value);
    tensor.dispose();
  }
  rmSync(out, { recursive: true });
  return parts;
}

const far = (a: readonly number[], b: readonly number[]): number =>
  a.reduce((most, value, i) => Math.max(most, Math.abs(value - b[i]!)), 0);

const LORA = { lora: { rank: 2, alpha: 4 } };
const DORA = { lora: { rank: 2, alpha: 4, dora: true } };

describe('a part that is frozen where a run goes on', () => {
  const from = (): RecipeInput['model'] => ({ from: base, tokenizer: folder.at('tokenizer') });

  test.each<[string, () => Partial<RecipeInput>]>([
    ['trained fully, of a new model', () => ({})],
    [
      'trained fully, beside LoRA',
      () => ({ model: from(), train: { vision: 'full', decoder: LORA } }),
    ],
    ['by LoRA', () => ({ model: from(), train: { vision: LORA, decoder: LORA } })],
    ['by DoRA', () => ({ model: from(), train: { vision: DORA, decoder: DORA } })],
    [
      'by LoRA, beside a decoder that trains fully',
      () => ({ model: from(), train: { vision: LORA, decoder: 'full' } }),
    ],
  ])('keeps what it has learnt: %s', async (_name, more) => {
    const run = await begin(more());
    const before = await leftBy(run);
    const events = await goOn(run, ['train.vision=frozen']);
    expect(saidOf(events)).toContain(
      'vision trains no longer: it keeps what it has learnt, and its optimizer state is dropped',
    );
    const after = await leftBy(run);
    expect(far(after.vision, before.vision)).toBeLessThan(1e-7);
    expect(far(after.decoder, before.decoder)).toBeGreaterThan(1e-5);
    // And once more, where nothing of it is in the optimizer.
    const rest = await goOn(run, [], { maxUpdates: 5 });
    expect(rest.at(-1)).toMatchObject({ update: 5 });
    expect(saidOf(rest)).not.toContain('trains no longer');
    expect(far((await leftBy(run)).vision, before.vision)).toBeLessThan(1e-7);
  });

  test('is written with the row of its image token, and read without', async () => {
    const tokenizer = folder.at('tokenizer');
    const run = await begin({
      model: { config: { ...TINY_CONFIG, image_token_index: 320 }, tokenizer },
    });
    const { tensors } = await readSafetensors(join(await weightsIn(run), 'model.safetensors'));
    const embeddings = tensors.find(({ name }) => name.endsWith('embed_tokens.weight'))!;
    expect(embeddings.shape[0]).toBeGreaterThan(320);
    const before = await leftBy(run);
    await goOn(run, ['train.decoder=frozen']);
    expect((await goOn(run, [], { maxUpdates: 5 })).at(-1)).toMatchObject({ update: 5 });
    expect((await leftBy(run)).decoder).toEqual(before.decoder);
  });

  test('is not what it was before, where an adapter had been folded into it', async () => {
    const adapter = await begin({ model: from(), train: { vision: LORA, decoder: LORA } });
    const run = await begin({
      model: { ...from(), adapter },
      train: { vision: 'full', decoder: LORA },
    });
    const before = await leftBy(run);
    await goOn(run, ['train.vision=frozen']);
    expect(far((await leftBy(run)).vision, before.vision)).toBeLessThan(1e-7);
  });
});

describe('a part that trains from where a run goes on', () => {
  test.each([
    ['projector=full', 'projector'],
    ['vision={ lora: { rank: 2, alpha: 4 } }', 'vision'],
  ] as const)('begins with fresh optimizer state: train.%s', async (set, part) => {
    const run = await begin({
      model: { from: base, tokenizer: folder.at('tokenizer') },
      train: { vision: 'frozen', projector: 'frozen', decoder: LORA },
    });
    const before = await leftBy(run);
    const events = await goOn(run, [`train.${set}`], { maxUpdates: 5 });
    expect(saidOf(events)).toContain(`${part} trains from here on, with fresh optimizer state`);
    const after = await leftBy(run);
    expect(far(after[part], before[part])).toBeGreaterThan(1e-6);
    expect(await goOn(run, [], { maxUpdates: 6 })).toContainEqual(
      expect.objectContaining({ type: 'end', update: 6 }),
    );
  });

  test('otherwise than it did is refused', async () => {
    const run = await begin({
      model: { from: base, tokenizer: folder.at('tokenizer') },
      train: { vision: 'frozen', decoder: LORA },
    });
    await expect(goOn(run, ['train.decoder=full'])).rejects.toMatchObject({
      code: 'E_CHECKPOINT_TENSORS',
      hint: expect.stringContaining('the recipe that the run was begun with') as string,
    });
  });
});

test.each<[string, RecipeInput['train']]>([
  ['full', { vision: 'full', projector: 'full', decoder: 'full' }],
  ['saved beside LoRA', { decoder: { lora: { rank: 2, modulesToSave: ['embed_tokens'] } } }],
])('a head that is tied to the embeddings is read once: %s', async (_name, how) => {
  const config = {
    ...TINY_CONFIG,
    text_config: { ...TINY_CONFIG.text_config, tie_word_embeddings: true },
  };
  const tokenizer = folder.at('tokenizer');
  const whole = { model: { config, tokenizer }, run: { root: folder.at('tied') } };
  const from = await weightsIn(await begin(whole));
  const run = await begin({ model: { from, tokenizer }, train: how });
  expect((await goOn(run, [])).at(-1)).toMatchObject({ update: 4 });
});

test.each(['model.safetensors', 'optimizer.safetensors'])(
  'a tensor in %s that nobody reads is refused by its name',
  async (name) => {
    const run = await begin({});
    const checkpoint = await weightsIn(run);
    const path = join(checkpoint, name);
    const { tensors } = await readSafetensors(path);
    const kept = await Promise.all(
      tensors.map(async (stored) => ({ ...stored, bytes: await readSpan(stored) })),
    );
    rmSync(path);
    const strange = 'model.vision_tower.encoder.layers.7.mlp.fc1.weight';
    const more = { ...kept[0]!, name: name.startsWith('model') ? strange : `${strange}.exp_avg` };
    await writeSafetensors(
      path,
      [...kept, more].map(({ bytes, ...rest }) => ({ ...rest, bytes: () => bytes })),
    );
    const manifest = join(checkpoint, MANIFEST);
    const facts = JSON.parse(readFileSync(manifest, 'utf8')) as object;
    writeFileSync(
      manifest,
      JSON.stringify({ ...facts, files: await hashFolder(checkpoint, ALONE) }),
    );
    await expect(goOn(run, [])).rejects.toMatchObject({
      code: 'E_CHECKPOINT_TENSORS',
      message: expect.stringContaining('encoder.layers.7.mlp.fc1.weight') as string,
    });
  },
);
