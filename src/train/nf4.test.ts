/** Runs whose frozen weights are in NF4: trained, stopped and resumed, sharded, spoken to, exported, refused. */

import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkRecipe, type RecipeInput } from '../config/index.js';
import { loadChatModel } from '../generate/index.js';
import {
  exportModel,
  type LanguageModel,
  readTensorFile,
  writeTensorFile,
} from '../models/index.js';
import { linearsOf, Nf4Weight } from '../nn/index.js';
import { noGrad, scope, type Tensor } from '../torch/index.js';
import { readSafetensors } from '../formats/safetensors/header.js';
import type { TrainEvent } from './events.js';
import { all, endOf, lossesOf, startOf } from './testing-events.js';
import { ColourFolder } from './testing-files.js';
import { resumeRun, train, type TrainOptions } from './train.js';

let folder: ColourFolder;
/** A checkpoint of a run that has trained everything: the base. */
let base: string;
beforeAll(async () => {
  folder = await ColourFolder.make();
  base = endOf(await all(train(folder.recipe()))).checkpoint!;
});
afterAll(() => folder.remove());

const LORA = { rank: 2, alpha: 4, dropout: 0.1 };
const TRAIN = {
  vision: { base: 'nf4' },
  projector: 'full',
  decoder: { lora: LORA, base: 'nf4', doubleQuantised: true },
} as const;

const recipe = (more: Partial<RecipeInput> = {}): RecipeInput =>
  folder.recipe({ model: { from: base }, train: TRAIN, ...more });
const run = (more?: Partial<RecipeInput>, options?: TrainOptions): Promise<TrainEvent[]> =>
  all(train(recipe(more), options));

/** The forms of all linear layers. */
function inNf4(model: LanguageModel): Record<string, boolean> {
  return Object.fromEntries(
    linearsOf(model).flatMap(([name, { base: weight }]) =>
      weight instanceof Nf4Weight ? [[name, weight.form.doubleQuantised]] : [],
    ),
  );
}

test('learn over a base in 4 bits that lies in no checkpoint, and say what that is', async () => {
  const events = await run();
  const { table, choices } = startOf(events);
  expect(table.filter(({ dtype }) => dtype === 'nf4')).toMatchObject([
    { part: 'vision', kind: 'frozen', tensors: 6, parameters: 2048 },
    { part: 'decoder', kind: 'frozen', tensors: 7, parameters: 2560 },
  ]);
  // fp32 against half a byte, a scale for 64, and the values of the codes.
  expect(choices).toMatchObject([
    { choice: 'vision in NF4', saves: 4 * 2048 - (1024 + 4 * 32 + 6 * 64) },
    { choice: 'decoder in NF4, scales in 8 bits' },
  ]);
  const { checkpoint } = endOf(events);
  const { tensors } = await readSafetensors(join(checkpoint!, 'adapter_model.safetensors'));
  const names = tensors.map(({ name }) => name);
  expect(names.every((name) => /lora_|multi_modal_projector/.test(name))).toBe(true);
  const provenance = JSON.parse(readFileSync(join(checkpoint!, 'provenance.json'), 'utf8')) as {
    bases: unknown;
  };
  expect(provenance.bases).toEqual({
    vision: { form: 'nf4', doubleQuantised: false },
    decoder: { form: 'nf4', doubleQuantised: true },
  });
});

test('go on to the bit, over the same codes', async () => {
  const whole = await run();
  const first = await run({}, { maxUpdates: 4 });
  const rest = await all(resumeRun(endOf(first).run!));
  expect([...lossesOf(first), ...lossesOf(rest)]).toEqual(lossesOf(whole));
});

test('go on over a base in another form than the checkpoint was trained over, and say so', async () => {
  const dense = { vision: 'frozen', projector: 'full', decoder: { lora: LORA } } as const;
  const held = 'frozen weights were held';
  const stored = 'as they are stored';
  const double = 'in NF4, scales in 8 bits';
  for (const [began, set, changes] of [
    [
      dense,
      ['train.vision.base=nf4', 'train.decoder.base=nf4', 'train.decoder.doubleQuantised=true'],
      [
        `vision: ${held} ${stored}, and are held in NF4 from here on`,
        `decoder: ${held} ${stored}, and are held ${double} from here on`,
      ],
    ],
    [
      TRAIN,
      ['train.vision=frozen', 'train.decoder={lora: {rank: 2, alpha: 4, dropout: 0.1}}'],
      [
        `vision: ${held} in NF4, and are held ${stored} from here on`,
        `decoder: ${held} ${double}, and are held ${stored} from here on`,
      ],
    ],
    [
      TRAIN,
      ['train.decoder.doubleQuantised=false'],
      [`decoder: ${held} ${double}, and are held in NF4 from here on`],
    ],
  ] as const) {
    const first = await run({ train: began }, { maxUpdates: 4 });
    const folder = endOf(first).run!;
    const rest = await all(resumeRun(folder, { set }));
    const { statements, resumedFrom } = startOf(rest);
    expect(resumedFrom).toBe(4);
    expect(statements.filter((each) => each.includes('are held'))).toEqual(changes);
    // What it has learnt is there still: it goes on about where it stood.
    const whole = lossesOf(await run({ train: began }));
    for (const [i, loss] of lossesOf(rest).entries())
      expect(Math.abs(loss! - whole[4 + i]!)).toBeLessThan(0.05);
  }
});

test('a weight that has learnt is not quantised where its part is frozen', async () => {
  const parts = { vision: 'full', projector: 'full', decoder: { lora: LORA } } as const;
  const first = await run({ train: parts }, { maxUpdates: 2 });
  const path = endOf(first).run!;
  for (const [base, name] of Object.entries({ nf4: 'NF4', fp8: 'fp8' })) {
    const set = [`train.vision={base: ${base}}`];
    await expect(all(resumeRun(path, { set }))).rejects.toMatchObject({
      code: 'E_QUANTISED_BASE',
      message: expect.stringMatching(`vision_tower.*to be held in ${name}.*has learnt`) as string,
    });
  }
  const rest = await all(resumeRun(path, { set: ['train.vision=frozen'] }));
  expect(startOf(rest).resumedFrom).toBe(2);
});

test.each([
  { zero: 0, offload: 'optimizer' },
  { zero: 3, offload: 'parameters' },
] as const)('are shared out: %o', async (parallel) => {
  const expected = lossesOf(await run());
  for (const [i, loss] of lossesOf(await run({ parallel })).entries()) {
    expect(loss).toBeCloseTo(expected[i]!, 4);
  }
});

test.each([false, true])('adapters of the tower learn over it too, with DoRA: %s', async (dora) => {
  const lora = { ...LORA, dora };
  const parts = (base: object) => ({
    ...{ vision: { lora, ...base }, projector: 'frozen', decoder: { lora, ...base } },
  });
  const [quantised, expected] = [
    await run({ train: parts({ base: 'nf4' }) as RecipeInput['train'] }),
    // What the codes stand for, as weights.
    await run({ train: parts({}) as RecipeInput['train'], model: { from: await dequantised() } }),
  ];
  for (const [i, loss] of lossesOf(quantised).entries()) {
    expect(loss).toBeCloseTo(lossesOf(expected)[i]!, 5);
  }
});

/** The base with both parts in NF4, made dense. */
async function dequantised(): Promise<string> {
  const out = folder.at('dense');
  const form = { form: 'nf4', doubleQuantised: false } as const;
  await exportModel(base, 'hf', out, { bases: { vision: form, decoder: form }, replace: true });
  return out;
}

test('a checkpoint is spoken to over the base in 4 bits, and exported as what that stands for', async () => {
  const { checkpoint } = endOf(await run());
  const out = folder.at('exported');
  const { model, loaded } = await loadChatModel(checkpoint!);
  const forms = inNf4(model);
  expect(Object.keys(forms)).toHaveLength(13);
  expect(forms['model.language_model.layers.0.mlp.up_proj']).toBe(true);
  expect(forms['model.vision_tower.encoder.layers.0.mlp.fc1']).toBe(false);
  expect(loaded.assembly.provenance?.bases).toBeDefined();
  const { notes } = await exportModel(checkpoint!, 'hf', out, { merge: true });
  expect(notes.join('\n')).toMatch(
    /13 matrices held in NF4 .* rounded once to float32: .*quantised/,
  );
  const again = await exportModel(checkpoint!, 'hf', folder.at('again-in-4'), {
    ...{ merge: true, quantise: { doubleQuantised: true } },
  });
  expect(again.notes.join('\n')).toMatch(
    /quantised anew, which loses a part of it\.\n6 matrices held in NF4 are written as the numbers/,
  );
  const { model: dense } = await loadChatModel(out);
  expect(inNf4(dense)).toEqual({});
  scope(() => {
    for (const [name, layer] of linearsOf(model)) {
      const other = new Map(linearsOf(dense)).get(name)!;
      const merged = noGrad(() => layer.adapter?.merged() ?? layer.base.dense());
      expect(distance(merged, other.weight), name).toBeLessThan(1e-6);
    }
  });
  model.dispose();
  dense.dispose();
});

test('keys of bitsandbytes are written, read as they are, and trained on', async () => {
  const out = folder.at('written');
  const form = { doubleQuantised: true };
  const { notes, parameters } = await exportModel(base, 'hf', out, { quantise: form });
  const whole = await exportModel(base, 'hf', folder.at('whole'));
  expect(parameters).toBe(whole.parameters);
  expect(notes.join('\n')).toMatch(/decoder's blocks are written in NF4/);
  const config = JSON.parse(readFileSync(join(out, 'config.json'), 'utf8')) as Record<
    string,
    object
  >;
  expect(config['quantization_config']).toMatchObject({
    load_in_4bit: true,
    llm_int8_skip_modules: ['model.vision_tower', 'model.multi_modal_projector', 'lm_head'],
  });
  const decoder = { lora: LORA };
  const parts = { vision: 'frozen', projector: 'full', decoder } as const;
  const stored = await run({ model: { from: out }, train: parts });
  const quantised = await run({
    train: { ...parts, decoder: { ...decoder, base: 'nf4', ...form } },
  });
  expect(lossesOf(stored)).toEqual(lossesOf(quantised));
  // And once more, without a change.
  const again = folder.at('again');
  await exportModel(out, 'hf', again, { quantise: form });
  const file = 'model.safetensors';
  expect(readFileSync(join(again, file)).equals(readFileSync(join(out, file)))).toBe(true);

  await expect(
    run({ model: { from: out }, train: { ...parts, decoder: { ...decoder, base: 'fp8' } } }),
  ).rejects.toMatchObject({
    code: 'E_QUANTISED_BASE',
    message: expect.stringMatching(/^train\.decoder\.base: fp8: .* is stored in nf4$/) as string,
  });
  // What is written as it is held is looked at too.
  const tensors = await readTensorFile(join(again, file));
  const [scales] = [...tensors].find(([name]) => name.endsWith('.nested_absmax'))!;
  scope(() => tensors.get(scales)!.fill_(NaN));
  rmSync(join(again, file));
  await writeTensorFile(join(again, file), tensors);
  for (const tensor of tensors.values()) tensor.dispose();
  await expect(exportModel(again, 'hf', folder.at('y'), { quantise: form })).rejects.toMatchObject({
    code: 'E_NON_FINITE_WEIGHTS',
  });

  await expect(run({ model: { from: out }, train: { decoder: 'full' } })).rejects.toMatchObject({
    code: 'E_QUANTISED_FULL',
    message: expect.stringMatching(
      /^train\.decoder: full: model\.language_model\.layers\.0/,
    ) as string,
  });
  const modulesToSave = ['*.up_proj'];
  await expect(
    run({ model: { from: out }, train: { decoder: { lora: { ...LORA, modulesToSave } } } }),
  ).rejects.toMatchObject({ code: 'E_QUANTISED_FULL' });
  await expect(
    exportModel(out, 'official', folder.at('x'), { quantise: form }),
  ).rejects.toMatchObject({ code: 'E_LAYOUT_LIMIT' });
  rmSync(out, { recursive: true });
});

test('modules that train fully beside an adapter stay as they are stored', async () => {
  const modulesToSave = ['*.up_proj'];
  const events = await run({
    train: { ...TRAIN, decoder: { lora: { ...LORA, modulesToSave }, base: 'nf4' } },
  });
  const rows = startOf(events).table.filter(({ part }) => part === 'decoder');
  expect(rows.find(({ kind }) => kind === 'saved module')).toMatchObject({ parameters: 512 });
  expect(rows.find(({ dtype }) => dtype === 'nf4')).toMatchObject({ tensors: 6 });
  const { model } = await loadChatModel(endOf(events).checkpoint!);
  expect(Object.keys(inNf4(model))).toHaveLength(12);
  model.dispose();
});

test.each([
  [{ decoder: { doubleQuantised: true, lora: {} } }, {}, /doubleQuantised: .*set `base: nf4`/],
  [{ decoder: {} }, {}, /train\.decoder: give it a `lora`, a `base`, or both/],
  [{ projector: 'frozen', decoder: { base: 'nf4' } }, {}, /nothing would learn/],
  [
    { decoder: { lora: {}, base: 'nf4' } },
    { config: {}, tokenizer: 'x' },
    /train\.decoder\.base: a new/,
  ],
] as const)('a recipe that asks for %o is refused', (parts, model, message) => {
  const chosen = Object.keys(model).length === 0 ? { from: base } : model;
  expect(() => checkRecipe({ ...recipe(), model: chosen, train: parts })).toThrow(message);
});

function distance(a: Tensor, b: Tensor): number {
  return a.sub(b).abs().max().item() / b.abs().max().item();
}
