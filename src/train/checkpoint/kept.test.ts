/** What comes out of a run is the model whose loss was shown: at a learning rate at which nothing moves, what it began with. */
import fc from 'fast-check';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { PatinaError } from '../../base/errors.js';
import type { RecipeInput } from '../../config/index.js';
import { nameTensors } from '../../formats/layouts/name-tensors.js';
import { toStoredName } from '../../formats/layouts/rename.js';
import { LAYOUTS, LLAVA_PREFIXES, type LayoutName } from '../../formats/layouts/tables.js';
import { readSafetensors } from '../../formats/safetensors/header.js';
import { writeSafetensors } from '../../formats/safetensors/write.js';
import { readSpan } from '../../formats/stored.js';
import { loadChatModel } from '../../generate/index.js';
import { describeSource, exportModel, readTensorFile } from '../../models/index.js';
import { weightsIn } from '../run/run-weights.js';
import type { TrainEvent } from '../events.js';
import { ColourFolder, colourRecord } from '../testing-files.js';
import { resumeRun, train, type TrainOptions } from '../train.js';

type Model = NonNullable<RecipeInput['model']>;
type Train = NonNullable<RecipeInput['train']>;

let folder: ColourFolder;
/** By name: what runs start from. */
const starts: Record<string, Model> = {};

/** Nothing moves: 1e-30 is lost in any weight that is not 0 itself. */
const STILL = { optimizer: { learningRate: 1e-30, weightDecay: 0 } } as const;
const MOVES = { optimizer: { learningRate: 3e-2 } } as const;
const LORA = { lora: { rank: 2, alpha: 4 } };
const DORA = { lora: { rank: 2, alpha: 4, dora: true } };

/** Trains, and returns the folder of the run. */
async function run(more: Partial<RecipeInput>, options: TrainOptions = { maxUpdates: 2 }) {
  return end(train(folder.recipe(more), options));
}

async function end(events: AsyncIterable<TrainEvent>): Promise<string> {
  let path: string | null = null;
  for await (const event of events) if (event.type === 'end') path = event.run;
  return path!;
}

let exports = 0;

/** The tensors of a model as it is exported, adapters folded in. */
async function exported(
  source: string,
  options: Parameters<typeof exportModel>[3] = {},
): Promise<Map<string, Float32Array>> {
  const out = folder.at(`export-${exports++}`);
  await exportModel(await weightsIn(source), 'hf', out, { merge: true, ...options });
  const read = await readTensorFile(join(out, 'model.safetensors'));
  const values = new Map<string, Float32Array>();
  for (const [name, tensor] of read) {
    values.set(name, Float32Array.from(tensor.toTypedArray() as Float32Array));
    tensor.dispose();
  }
  rmSync(out, { recursive: true });
  return values;
}

/** What a run begins with, as it is exported. */
async function beginning({ from, llm, vision, projector, adapter }: Model) {
  return exported((from ?? llm)!, {
    llm: from === undefined ? undefined : await weightsIn(llm),
    vision: await weightsIn(vision),
    projector: await weightsIn(projector),
    adapters: adapter === undefined ? [] : [await weightsIn(adapter)],
  });
}

/** The largest difference, of the tensors that both have. */
function apart(
  a: ReadonlyMap<string, Float32Array>,
  b: ReadonlyMap<string, Float32Array>,
): { name: string; by: number } {
  let worst = { name: '', by: 0 };
  for (const [name, values] of a) {
    const other = b.get(name)!;
    expect(other.length, name).toBe(values.length);
    for (let i = 0; i < values.length; i++) {
      const by = Math.abs(values[i]! - other[i]!);
      if (!(by <= worst.by)) worst = { name, by };
    }
  }
  return worst;
}

/** Writes a model's tensors in another layout, with the configuration that belongs there. */
async function relaid(source: string, layout: LayoutName, config: object): Promise<string> {
  const path = folder.at(`layout-${layout}`);
  mkdirSync(path);
  const { tensors } = await readSafetensors(join(source, 'model.safetensors'));
  const written = [];
  for (const [name, stored] of nameTensors(tensors, { where: source }).tensors) {
    const other = toStoredName(LAYOUTS[layout], name, LLAVA_PREFIXES);
    if (other === undefined) continue;
    const { dtype, shape } = stored;
    const bytes = await readSpan(stored);
    written.push({ name: other, dtype, shape, bytes: () => bytes });
  }
  await writeSafetensors(join(path, 'model.safetensors'), written);
  if (layout !== 'xtuner') writeFileSync(join(path, 'config.json'), JSON.stringify(config));
  return path;
}

beforeAll(async () => {
  folder = await ColourFolder.make();
  const tokenizer = folder.at('tokenizer');
  const whole = await run({ ...MOVES, run: { root: folder.runs, name: 'whole' } });
  const base = folder.at('base');
  cpSync(await weightsIn(whole), base, { recursive: true });
  // A model as others leave it: nothing says where it comes from.
  rmSync(join(base, 'provenance.json'));
  const json = JSON.parse(readFileSync(join(base, 'config.json'), 'utf8')) as Record<
    'text_config' | 'vision_config',
    object
  >;
  const llm = await relaid(base, 'llama', json.text_config);
  cpSync(tokenizer, llm, { recursive: true });
  const vision = await relaid(base, 'clip', json.vision_config);
  const official = await relaid(base, 'official', {
    ...json.text_config,
    model_type: 'llava_llama',
    mm_vision_tower: '../layout-clip',
    mm_projector_type: 'mlp2x_gelu',
    mm_vision_select_layer: -1,
    mm_vision_select_feature: 'patch',
  });
  cpSync(tokenizer, official, { recursive: true });
  const xtuner = await relaid(base, 'xtuner', {});
  const xtunerProjector = await relaid(base, 'projector', {
    model_type: 'projector',
    visual_hidden_size: 16,
    llm_hidden_size: 16,
  });
  const stage1 = await run({
    ...MOVES,
    model: { from: base },
    train: { vision: 'frozen', projector: 'full', decoder: 'frozen' },
  });
  const adapters = async (form: typeof LORA): Promise<string> =>
    run({
      ...MOVES,
      model: { from: base },
      train: { vision: form, projector: 'full', decoder: form },
    });
  const [lora, dora] = [await adapters(LORA), await adapters(DORA)];
  const tower = await run({
    ...MOVES,
    model: { from: base },
    train: { vision: LORA, projector: LORA, decoder: 'frozen' },
  });
  const texts = folder.writeRecords(
    'texts.jsonl',
    [0, 1, 2, 3].map((i) => colourRecord(i, null)),
  );
  const words = await run({
    ...MOVES,
    model: { from: llm },
    data: { sources: [texts], workers: 0 },
    train: { decoder: LORA },
  });
  Object.assign(starts, {
    whole: { from: base },
    run: { from: whole },
    parts: { llm, vision },
    'parts with a projector': { llm, vision, projector: stage1 },
    official: { from: official },
    xtuner: { from: xtuner, llm, vision },
    'a first stage': { from: stage1 },
    'a projector over a model': { from: base, projector: stage1 },
    'a projector of an adapter': { from: base, projector: tower },
    'an adapter': { from: base, adapter: lora },
    'a run of adapters': { from: lora },
    'a run of DoRA': { from: dora },
    'DoRA over a model': { from: base, adapter: dora },
    'an adapter of the tower': { from: tower },
    'an adapter and a projector': { from: lora, projector: stage1 },
    'a decoder of adapters': { llm: words, vision, projector: stage1 },
    'a tower of adapters': { llm, vision: tower, projector: stage1 },
    'XTuner over a decoder of adapters': { from: xtunerProjector, llm: words, vision },
  } satisfies Record<string, Model>);
});
afterAll(() => folder.remove());

const HOW = ['frozen', 'full', LORA, DORA] as const;

/** Runs, and compares whatever can be made of the run with what it began with. */
async function check(start: string, how: Train): Promise<void> {
  const model = starts[start]!;
  let path: string;
  try {
    path = await run({ ...STILL, model, train: how }, { maxUpdates: 1 });
  } catch (error) {
    // Refused, before its first update: PEFT has one form for an adapter.
    expect(error).toBeInstanceOf(PatinaError);
    expect((error as PatinaError).code).toBe('E_ADAPTER_FORM');
    return;
  }
  // A projector that is drawn anew has no beginning.
  const began = start === 'parts' ? await exported(path) : await beginning(model);
  const ended = await exported(path);
  expect(apart(began, ended).by).toBeLessThan(1e-6);
  if (!JSON.stringify(how).includes('lora') && !/adapter|DoRA/.test(start)) {
    expect(apart(began, ended).by).toBeLessThan(1e-20);
  }
  if (existsSync(join(await weightsIn(path), 'adapter_config.json'))) {
    const peft = folder.at(`peft-${exports++}`);
    await exportModel(await weightsIn(path), 'peft', peft);
    expect(apart(ended, await exported(peft)).by).toBe(0);
  }
  expect((await describeSource(await weightsIn(path))).faults).toEqual([]);
  const { model: spoken } = await loadChatModel(await weightsIn(path));
  expect(spoken.input.image?.tokens).toBe(4);
  spoken.dispose();
  await end(resumeRun(path, { maxUpdates: 2 }));
  expect(apart(began, await exported(path)).by).toBeLessThan(1e-6);
  const on = { vision: 'frozen', projector: 'full', decoder: 'frozen' } as const;
  const further = await run({ ...STILL, model: { from: path }, train: on }, { maxUpdates: 1 });
  // It stands by itself on what lies beneath both, but for a whole model, which is the one beneath.
  const isWhole = existsSync(join(await weightsIn(path), 'config.json'));
  if (!isWhole) rmSync(path, { recursive: true });
  expect(apart(began, await exported(further)).by).toBeLessThan(1e-6);
}

describe('a run that moves nothing leaves what it began with', () => {
  const NAMES = [
    ...['whole', 'run', 'parts', 'parts with a projector', 'official', 'xtuner', 'a first stage'],
    ...['a projector over a model', 'a projector of an adapter', 'an adapter', 'a run of adapters'],
    ...['a run of DoRA', 'DoRA over a model', 'an adapter of the tower'],
    ...['an adapter and a projector', 'a decoder of adapters', 'a tower of adapters'],
    'XTuner over a decoder of adapters',
  ];

  test.each([
    ...[
      'parts with a projector',
      'official',
      'a projector over a model',
      'an adapter of the tower',
    ],
    ...['a projector of an adapter', 'DoRA over a model', 'an adapter and a projector'],
    ...['a decoder of adapters', 'a tower of adapters'],
  ])('%s: decoder by LoRA, all else frozen', (start) =>
    check(start, { vision: 'frozen', projector: 'frozen', decoder: LORA }),
  );

  test.each(['official', 'xtuner', 'a run of DoRA'])('%s: everything trains', (start) =>
    check(start, { vision: 'full', projector: 'full', decoder: 'full' }),
  );

  test('whatever it starts from and whichever parts train', async () => {
    const how = fc.constantFrom(...HOW);
    await fc.assert(
      fc.asyncProperty(
        fc.constantFrom(...NAMES),
        fc.tuple(how, how, how).filter((all) => all.some((each) => each !== 'frozen')),
        async (start, [vision, projector, decoder]) => check(start, { vision, projector, decoder }),
      ),
      { numRuns: process.env['PATINA_FULL'] === '1' ? 80 : 4 },
    );
  });
});
