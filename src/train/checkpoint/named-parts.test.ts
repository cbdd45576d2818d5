/** A part that is named gives that part alone, whatever else it holds; nothing is mixed of two, and nothing is passed over unsaid. */
import { rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RecipeInput } from '../../config/index.js';
import { loadChatModel } from '../../generate/index.js';
import { exportModel, readTensorFile } from '../../models/index.js';
import { weightsIn } from '../run/run-weights.js';
import { ColourFolder } from '../testing-files.js';
import { train } from '../train.js';

type Model = NonNullable<RecipeInput['model']>;
type Part = 'vision' | 'projector' | 'decoder';

let folder: ColourFolder;
/** Runs by name: whole models, and adapters on the first, all with weights of their own in every part that they train. */
const runs: Record<string, string> = {};
const values: Record<string, Map<string, Float32Array>> = {};

const LORA = { lora: { rank: 2, alpha: 4 } };
const MOVES = { optimizer: { learningRate: 3e-2 } } as const;
const STILL = { optimizer: { learningRate: 1e-30, weightDecay: 0 } } as const;

async function run(more: Partial<RecipeInput>): Promise<string> {
  let path: string | null = null;
  for await (const event of train(folder.recipe(more), { maxUpdates: 2 })) {
    if (event.type === 'end') path = event.run;
  }
  return path!;
}

async function exported(source: string): Promise<Map<string, Float32Array>> {
  const out = folder.at('exported');
  await exportModel(await weightsIn(source), 'hf', out, { merge: true });
  const read = new Map<string, Float32Array>();
  for (const [name, tensor] of await readTensorFile(join(out, 'model.safetensors'))) {
    read.set(name, Float32Array.from(tensor.toTypedArray() as Float32Array));
    tensor.dispose();
  }
  rmSync(out, { recursive: true });
  return read;
}

function partOf(name: string): Part {
  return name.includes('vision') ? 'vision' : name.includes('projector') ? 'projector' : 'decoder';
}

/** The runs whose part a model has, to rounding. */
function whose(model: ReadonlyMap<string, Float32Array>, part: Part): string[] {
  return Object.entries(values).flatMap(([run, other]) => {
    const same = [...model].every(([name, mine]) => {
      const theirs = other.get(name);
      return partOf(name) !== part || mine.every((each, i) => Math.abs(each - theirs![i]!) < 1e-6);
    });
    return same ? [run] : [];
  });
}

beforeAll(async () => {
  folder = await ColourFolder.make();
  runs['one'] = await run(MOVES);
  runs['two'] = await run({ ...MOVES, seed: 7 });
  const from = { from: runs['one'] };
  const adapted = { vision: LORA, projector: LORA, decoder: LORA } as const;
  runs['adapter'] = await run({ ...MOVES, model: from, train: adapted });
  runs['mixed'] = await run({ ...MOVES, model: from, train: { vision: LORA, decoder: LORA } });
  for (const [name, path] of Object.entries(runs)) values[name] = await exported(path);
});
afterAll(() => folder.remove());

test.each<[llm: string, vision: string, projector: string | undefined, decoder: RecipeInput]>(
  ['one', 'adapter', 'mixed'].flatMap((llm) =>
    ['two', 'adapter'].flatMap((vision) =>
      [undefined, 'two'].flatMap((projector) =>
        (['frozen', 'full'] as const).map((decoder) => [llm, vision, projector, decoder] as never),
      ),
    ),
  ),
)('llm %s, vision %s, projector %s; decoder %s', async (llm, vision, projector, decoder) => {
  const model: Model = {
    llm: runs[llm]!,
    vision: runs[vision]!,
    projector: projector && runs[projector],
  };
  const trains = { vision: 'frozen', projector: 'full', decoder } as never;
  const made = await exported(await run({ ...STILL, model, train: trains }));
  expect(whose(made, 'decoder')).toContain(llm);
  expect(whose(made, 'vision')).toContain(vision);
  expect(whose(made, 'projector')).toEqual(projector === undefined ? [] : [projector]);
});

test.each(['one', 'adapter', 'mixed'])(
  'a projector takes the place of that of %s, with its adapters',
  async (from) => {
    const model = { from: runs[from]!, projector: runs['two']! };
    const made = await exported(await run({ ...STILL, model }));
    expect(whose(made, 'projector')).toEqual(['two']);
    expect(whose(made, 'decoder')).toContain(from);
  },
);

test('a projector with fewer layers than the one before leaves none of it', async () => {
  const parts = { llm: runs['one']!, vision: runs['two']! };
  const deep = await run({ ...MOVES, model: { ...parts, projectorDepth: 3 } });
  const made = await exported(
    await run({ ...STILL, model: { from: deep, projector: runs['two']! } }),
  );
  expect(whose(made, 'projector')).toEqual(['two']);
  await expect(run({ model: { from: runs['one']!, projector: deep } })).rejects.toMatchObject({
    code: 'E_TENSORS',
    message: expect.stringContaining(await weightsIn(deep)) as string,
  });
});

test('a projector beside an adapter that holds one is refused', async () => {
  const model = { from: runs['one']!, adapter: runs['mixed']!, projector: runs['two']! };
  await expect(run({ model })).rejects.toMatchObject({
    code: 'E_PART_UNUSED',
    message: expect.stringContaining('the adapter') as string,
  });
});

test.each(['llm', 'vision'] as const)('a %s beside a whole model is told', async (part) => {
  const said: string[] = [];
  const { model } = await loadChatModel(await weightsIn(runs['one']!), {
    [part]: await weightsIn(runs['two']!),
    onNotice: (message) => said.push(message),
  });
  model.dispose();
  expect(said).toEqual([expect.stringMatching(new RegExp(`--${part}.*gives no weights`))]);
});
