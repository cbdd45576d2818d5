/** Runs whose frozen weights are in fp8: trained, stopped and resumed, shared out, spoken to, exported, refused. */

import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { checkRecipe, type RecipeInput } from '../config/index.js';
import { readSafetensors } from '../formats/safetensors/header.js';
import { loadChatModel } from '../generate/index.js';
import { exportModel, requireFp8 } from '../models/index.js';
import { Fp8Weight, linearsOf } from '../nn/index.js';
import { noGrad, scope } from '../torch/index.js';
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
  vision: { base: 'fp8' },
  projector: 'full',
  decoder: { lora: LORA, base: 'fp8' },
} as const;

const recipe = (more: Partial<RecipeInput> = {}): RecipeInput =>
  folder.recipe({ model: { from: base }, train: TRAIN, ...more });
const run = (more?: Partial<RecipeInput>, options?: TrainOptions): Promise<TrainEvent[]> =>
  all(train(recipe(more), options));

test('learn what weights in full precision learn, say what they hold, and write adapters alone', async () => {
  const events = await run();
  const { table, choices } = startOf(events);
  expect(table.filter(({ dtype }) => dtype === 'fp8')).toMatchObject([
    { part: 'vision', kind: 'frozen', tensors: 6, parameters: 2048 },
    { part: 'decoder', kind: 'frozen', tensors: 7, parameters: 2560 },
  ]);
  expect(choices.map(({ choice }) => choice)).toEqual(['vision in fp8', 'decoder in fp8']);
  // fp32 against a byte and a scale for each of 4 · 16 + 32 + 16 rows.
  // What a GPU gains is not promised here.
  expect(choices[0]!.costs).toMatch(/save no time/);
  expect(choices[0]!.saves).toBe(4 * 2048 - (2048 + 4 * 112));

  const dense = lossesOf(
    await run({ train: { projector: 'full', vision: 'frozen', decoder: { lora: LORA } } }),
  );
  const quantised = lossesOf(events);
  expect(quantised).not.toEqual(dense);
  for (const [i, loss] of quantised.entries()) {
    expect(Math.abs(loss! / dense[i]! - 1)).toBeLessThan(1e-3);
  }

  const { checkpoint } = endOf(events);
  const { tensors } = await readSafetensors(join(checkpoint!, 'adapter_model.safetensors'));
  const names = tensors.map(({ name }) => name);
  expect(names.every((name) => /lora_|multi_modal_projector/.test(name))).toBe(true);
  const provenance = JSON.parse(readFileSync(join(checkpoint!, 'provenance.json'), 'utf8')) as {
    bases: unknown;
  };
  expect(provenance.bases).toEqual({ vision: { form: 'fp8' }, decoder: { form: 'fp8' } });
});

test('go on to the bit, and are the same at every level of what is kept', async () => {
  const whole = await run();
  const first = await run({}, { maxUpdates: 4 });
  const rest = await all(resumeRun(endOf(first).run!));
  expect([...lossesOf(first), ...lossesOf(rest)]).toEqual(lossesOf(whole));
  const recomputed = await run({ memory: { policy: 'recompute' } });
  expect(lossesOf(recomputed)).toEqual(lossesOf(whole));
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

test('adapters of the tower learn over it too, by autograd', async () => {
  const parts = (more: object) =>
    ({ vision: { lora: LORA, ...more }, projector: 'frozen', decoder: 'frozen' }) as const;
  const dense = lossesOf(await run({ train: parts({}) }));
  for (const [i, loss] of lossesOf(await run({ train: parts({ base: 'fp8' }) })).entries()) {
    expect(Math.abs(loss! / dense[i]! - 1)).toBeLessThan(1e-3);
  }
});

test('a checkpoint is spoken to over the base in fp8, and exported as what that stands for', async () => {
  const { checkpoint } = endOf(await run());
  const out = folder.at('exported');
  const { model } = await loadChatModel(checkpoint!);
  const held = linearsOf(model).filter(([, layer]) => layer.base instanceof Fp8Weight);
  expect(held).toHaveLength(13);
  const { notes } = await exportModel(checkpoint!, 'hf', out, { merge: true });
  expect(notes.join('\n')).toMatch(
    /13 matrices held in fp8 are written as the numbers that the codes stand for, rounded once to float32/,
  );
  const { model: dense } = await loadChatModel(out);
  const layers = new Map(linearsOf(dense));
  scope(() => {
    for (const [name, layer] of held) {
      const merged = noGrad(() => layer.adapter?.merged() ?? layer.base.dense());
      const off = merged.sub(layers.get(name)!.weight).abs().max().item();
      expect(off / merged.abs().max().item(), name).toBeLessThan(1e-6);
    }
  });
  model.dispose();
  dense.dispose();
});

test('a run on a GPU without fp8 is told what there is instead', () => {
  const device = { name: 'cuda:0 (NVIDIA A100)', capability: 8 };
  expect(() => requireFp8(device)).toThrow(/cuda:0 \(NVIDIA A100\) has no products in fp8/);
  for (const capability of [null, 8.9, 9]) {
    expect(() => requireFp8({ name: 'another', capability })).not.toThrow();
  }
});

test.each([
  [{ decoder: { doubleQuantised: true, base: 'fp8', lora: {} } }, /set `base: nf4`/],
  [{ projector: 'frozen', decoder: { base: 'fp8' } }, /nothing would learn/],
] as const)('a recipe that asks for %o is refused', (parts, message) => {
  expect(() => checkRecipe({ ...recipe(), train: parts })).toThrow(message);
});
