import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { checkRecipe, loadRecipe } from './load-recipe.js';
import { RecipeError } from './recipe-error.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-recipe-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const EXACT = { task: 'exact', data: 'mine.jsonl' };
const MINIMAL = {
  name: 'mine',
  model: { from: 'org/model' },
  data: { sources: ['org/data'] },
  optimizer: { learningRate: 2e-5 },
};

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** The faults of a recipe, as `origin: path: message` without the folder. */
async function faults(promise: Promise<unknown> | (() => unknown)): Promise<string[]> {
  try {
    await (typeof promise === 'function' ? promise() : promise);
  } catch (error) {
    if (!(error instanceof RecipeError)) throw error;
    expect(error).toMatchObject({ code: 'E_RECIPE', exitCode: 2 });
    return error.message.split('\n').map((line) => line.replace(`${folder}/`, ''));
  }
  throw new Error('the recipe has no fault');
}

describe('a recipe', () => {
  test('gets its defaults, and is its own fixed point', () => {
    const recipe = checkRecipe(MINIMAL);
    expect(recipe).toMatchObject({
      train: { vision: 'frozen', projector: 'full', decoder: { lora: { rank: 16, alpha: 32 } } },
      data: { sources: [{ path: 'org/data', weight: 1 }], badRecords: 'stop' },
      optimizer: { betas: [0.9, 0.999], clipNorm: 1 },
      schedule: { epochs: 1, warmupRatio: 0.03, decay: 'cosine' },
      batchSize: 1,
      seed: 0,
    });
    expect(checkRecipe(JSON.parse(JSON.stringify(recipe)))).toEqual(recipe);
  });

  test('is the same from YAML, JSON and TypeScript', async () => {
    const yaml = `
      # yaml-language-server: $schema=recipe.schema.json
      name: mine
      model: { from: org/model }
      data:
        sources:
          - org/data
      optimizer: { learningRate: 2e-5 }`;
    const typescript = `
      import { defineRecipe, type RecipeInput } from 'patina';
      import { rate } from './rate.js';
      const model: RecipeInput['model'] = { from: 'org/model' };
      export default defineRecipe({
        name: 'mine', model, data: { sources: ['org/data'] }, optimizer: { learningRate: rate },
      });`;
    file('rate.ts', 'export const rate: number = 2e-5;');
    const expected = checkRecipe(MINIMAL);
    const json = JSON.stringify({ $schema: './recipe.schema.json', ...MINIMAL }, null, '\t');
    for (const [name, text] of [
      ['a.yaml', yaml],
      ['a.json', json],
      ['a.ts', typescript],
    ] as const) {
      expect(await loadRecipe(file(name, text)), name).toEqual(expected);
    }
  });

  test('in TypeScript gets from "patina" what the caller gives', async () => {
    const path = file('b.ts', `import { recipes } from 'patina'; export default recipes.mine;`);
    const recipe = await loadRecipe(path, { exports: { recipes: { mine: MINIMAL } } });
    expect(recipe.name).toBe('mine');
  });

  test('counts its paths from its own folder, and those of the command line from there', async () => {
    mkdirSync(join(folder, 'deep'), { recursive: true });
    writeFileSync(join(folder, 'deep', 'train.json'), '[]');
    const path = file(
      'deep/c.yaml',
      `
      name: c
      model: { llm: ./llm, vision: openai/clip, projector: ../projector }
      data:
        sources:
          - train.json
          - { path: org/data, images: images }
      probes: { questions: [{ text: What?, images: [a.png, /b.png] }] }
      optimizer: { learningRate: 1 }`,
    );
    const cwd = join(folder, 'elsewhere');
    const recipe = await loadRecipe(path, {
      cwd,
      set: ['model.tokenizer=./tokenizer', 'data.sources.1.images=pictures'],
    });
    const deep = join(folder, 'deep');
    expect(recipe.model).toEqual({
      llm: join(deep, 'llm'),
      vision: 'openai/clip',
      projector: join(folder, 'projector'),
      tokenizer: join(cwd, 'tokenizer'),
    });
    expect(recipe.data.sources.map(({ path, images }) => [path, images])).toEqual([
      [join(deep, 'train.json'), undefined],
      ['org/data', join(cwd, 'pictures')],
    ]);
    expect(recipe.probes.questions[0]!.images).toEqual([join(deep, 'a.png'), '/b.png']);
  });
});

describe('faults', () => {
  test('name line and column of the key or value, all at once', async () => {
    const path = file(
      'faults.yaml',
      [
        'name: my recipe',
        'model: { from: org/model, visoin: org/clip }',
        'learningRate: 1',
        'data:',
        '  sources:',
        '    - path: a.json',
        '      wieght: 2',
        'optimizer:',
        '  learningrate: 2e-5',
        '  betas: [0.9]',
        'schedule: { decay: cosin, warmupRatio: 3 }',
        'batchSize: "8"',
        'train: { decoder: { lora: { rank: 0, foo: 1 } }, vision: ful }',
        'device: gpu',
      ].join('\n'),
    );
    expect(await faults(loadRecipe(path))).toEqual([
      'faults.yaml:1:7: name: expected letters, digits, ".", "_" and "-"',
      'faults.yaml:2:27: model.visoin: unknown key. Did you mean "vision"?',
      'faults.yaml:13:58: train.vision: expected "frozen", "full" or a section with lora, base, doubleQuantised, got "ful". Did you mean "full"?',
      'faults.yaml:13:35: train.decoder.lora.rank: expected a whole number of at least 1, got 0',
      'faults.yaml:13:38: train.decoder.lora.foo: unknown key; known here: rank, alpha, dropout, targets, rslora, dora, loraPlusRatio, modulesToSave',
      'faults.yaml:7:7: data.sources.0.wieght: unknown key. Did you mean "weight"?',
      'faults.yaml:9:3: optimizer.learningRate: is missing: expected a number above 0',
      'faults.yaml:10:10: optimizer.betas: expected a list of 2, got [0.9]',
      'faults.yaml:9:3: optimizer.learningrate: unknown key. Did you mean "learningRate"?',
      'faults.yaml:11:20: schedule.decay: expected "cosine", "linear" or "constant", got "cosin". Did you mean "cosine"?',
      'faults.yaml:11:40: schedule.warmupRatio: expected a number of at least 0 and below 1, got 3',
      'faults.yaml:12:12: batchSize: expected a whole number of at least 1, got "8"',
      'faults.yaml:14:9: device: expected "auto", "cpu", "cuda" or "cuda:<index>"',
      'faults.yaml:3:1: learningRate: unknown key here. Did you mean optimizer.learningRate?',
    ]);
  });

  test('of TypeScript name the file, the line and the field', async () => {
    const path = file('faults.ts', `export default { ...${JSON.stringify(MINIMAL)}, seed: -1 };`);
    expect(await faults(loadRecipe(path))).toEqual([
      'faults.ts:1: seed: expected a whole number of at least 0, got -1',
    ]);
  });

  test('of YAML itself are named too', async () => {
    expect(await faults(loadRecipe(file('bad.yaml', 'name: x\nname: y\n')))).toEqual([
      'bad.yaml:2:1: Map keys must be unique',
    ]);
    const [first] = await faults(loadRecipe(file('bad.json', '{"name": "x"')));
    expect(first).toMatch(/^bad\.json:1:13: /);
    expect((await faults(loadRecipe(file('empty.yaml', ''))))[0]).toMatch(
      /^empty\.yaml:1:1: expected a section with name, description/,
    );
    const bomb =
      'a: &a [1,1,1,1,1,1,1,1,1,1]\n' +
      'b: &b [*a,*a,*a,*a,*a,*a,*a,*a,*a,*a]\nc: [*b,*b,*b,*b,*b,*b,*b,*b,*b,*b]\n';
    expect((await faults(loadRecipe(file('bomb.yaml', bomb))))[0]).toContain('alias');
  });

  test.each([
    [
      { model: {} },
      'model: name a model by `from`, by `llm` and `vision`, or describe one by `config`',
    ],
    [
      { model: { config: {}, tokenizer: 't', llm: 'x' } },
      'model.config: `config` makes a new model: remove `llm`, or remove `config`',
    ],
    [{ model: { config: {} } }, 'model.config: a new model needs a `tokenizer`'],
    [
      { train: { projector: 'frozen', decoder: 'frozen' } },
      'train: nothing would learn: set a part to `full` or give it a LoRA',
    ],
    [
      { precision: { compute: 'fp32', master: 'bf16' } },
      'precision.master: bf16 weights need `compute: bf16`, not fp32',
    ],
    [
      { optimizer: { learningRate: 1, updateInBackward: true }, accumulate: 2 },
      'optimizer.updateInBackward: the global norm is not known in time: set `optimizer.clipNorm` to null',
    ],
    [{ validation: {} }, 'validation: give either `fraction` or `sources`, or `tasks`'],
    [
      { validation: { tasks: [EXACT, { ...EXACT, limit: 3 }] } },
      'validation.tasks.1.name: another task is called exact: give this one a `name` of its own',
    ],
    [
      { validation: { tasks: [EXACT], best: 'pope' } },
      'validation.best: name one of `tasks` (exact)',
    ],
    [
      { validation: { tasks: [EXACT], patience: 2 } },
      'validation.patience: there is no loss to wait for: name one of `tasks` as `best`, or give `fraction`',
    ],
    [
      { batchSize: 2, batchTokens: 100, effectiveBatch: 8 },
      'batchTokens: give either `batchSize` or `batchTokens`: remove one of them',
    ],
    [
      { batchTokens: 100 },
      'batchTokens: give `effectiveBatch`, the records of an update, which are packed',
    ],
    [
      { batchTokens: 100, effectiveBatch: 8, accumulate: 2 },
      'accumulate: how many micro-batches there are follows from `batchTokens`: remove it',
    ],
    [
      { batchImages: 2 },
      'batchImages: pictures are counted beside `batchTokens` only: give it, or remove `batchImages`',
    ],
    [
      {
        ...{ batchTokens: 100, effectiveBatch: 8 },
        optimizer: { learningRate: 1, updateInBackward: true, clipNorm: null },
      },
      'optimizer.updateInBackward: gradients are not accumulated: set `batchSize` in place of `batchTokens`',
    ],
  ])('%j contradicts itself', async (part, message) => {
    const found = await faults(() => checkRecipe({ ...MINIMAL, ...part }));
    expect(found[0]).toBe(`recipe: ${message}`);
  });

  test('of files are typed', async () => {
    const code = async (path: string): Promise<unknown> =>
      loadRecipe(path).catch((error: unknown) => (error as { code: string }).code);
    expect(await code(join(folder, 'none.yaml'))).toBe('E_RECIPE_MISSING');
    expect(await code(folder)).toBe('E_RECIPE_MISSING');
    expect(await code(file('a.toml', ''))).toBe('E_RECIPE_KIND');
    expect(await code(file('throws.ts', 'throw new Error("no");'))).toBe('E_RECIPE_LOAD');
    expect(await code(file('syntax.ts', 'export default {'))).toBe('E_RECIPE_LOAD');
    expect(await code(file('import.ts', 'import "not-there";'))).toBe('E_RECIPE_LOAD');
    expect(await code(file('nothing.ts', 'export const a = 1;'))).toBe('E_RECIPE_EXPORT');
  });

  test('of scripts that cannot be parsed name the line', async () => {
    const broken = file('spelling.ts', 'export default {\n  name: "a",\n');
    const message = /spelling\.ts:3 does not run: .*Unexpected token$/;
    await expect(loadRecipe(broken)).rejects.toThrow(message);
  });

  test('of a folder in place of a file say so', async () => {
    await expect(loadRecipe(folder)).rejects.toThrow(/is a folder\.$/);
  });
});

describe('--set', () => {
  const set = (...set: string[]) => checkRecipe(MINIMAL, { set });

  test('reads values by the type that the schema has there', () => {
    const recipe = set(
      'name=123',
      'optimizer.learningRate=1',
      'optimizer.learningRate=3e-4',
      'optimizer.betas=[0.9, 0.95]',
      'optimizer.clipNorm=null',
      'data.shuffle=false',
      'data.workers=2',
      'data.sources.0.weight=2',
      'data.sources.1=org/more',
      'train.vision.lora.rank=4',
      'train.decoder=frozen',
      'text.system=yes: a=b',
      'validation.fraction=0.1',
    );
    expect(recipe).toMatchObject({
      name: '123',
      optimizer: { learningRate: 3e-4, betas: [0.9, 0.95], clipNorm: null },
      data: {
        shuffle: false,
        workers: 2,
        sources: [
          { path: 'org/data', weight: 2 },
          { path: 'org/more', weight: 1 },
        ],
      },
      train: { vision: { lora: { rank: 4 } }, decoder: 'frozen' },
      text: { system: 'yes: a=b' },
      validation: { fraction: 0.1 },
    });
    expect(MINIMAL.data.sources).toEqual(['org/data']);
  });

  test('puts `batchTokens` in the place of `batchSize`, and back', () => {
    const packed = { ...MINIMAL, batchTokens: 100, batchImages: 3, effectiveBatch: 8 };
    const plain = { ...MINIMAL, batchSize: 2, accumulate: 4, effectiveBatch: 8 };
    const counted = { batchSize: 2, effectiveBatch: 8 };
    expect(checkRecipe(packed, { set: ['batchSize=2'] })).toEqual(
      checkRecipe({ ...MINIMAL, ...counted }),
    );
    expect(checkRecipe(plain, { set: ['batchTokens=100', 'batchImages=3'] })).toEqual(
      checkRecipe(packed),
    );
    expect(checkRecipe(packed)).not.toHaveProperty('batchSize');
    // Of two that are asked for none is forgotten.
    expect(() => checkRecipe(packed, { set: ['batchSize=2', 'batchTokens=50'] })).toThrow(
      '--set batchTokens=50: batchTokens: give either `batchSize` or `batchTokens`',
    );
  });

  test('puts a length in epochs in the place of one in updates, and so with the warm-up', () => {
    const counted = { ...MINIMAL, schedule: { updates: 150, warmupUpdates: 10 } };
    const { schedule } = checkRecipe(counted, {
      set: ['schedule.epochs=2', 'schedule.warmupRatio=0.1'],
    });
    expect(schedule).toMatchObject({ epochs: 2, warmupRatio: 0.1 });
    expect(schedule).not.toHaveProperty('updates');
    expect(schedule).not.toHaveProperty('warmupUpdates');
    expect(checkRecipe(counted, { set: ['schedule.decay=linear'] }).schedule.updates).toBe(150);
    const { updates } = checkRecipe(MINIMAL, { set: ['schedule.updates=7'] }).schedule;
    expect(updates).toBe(7);
  });

  test('sets one field of what a recipe has in short form or by default, and leaves the rest', () => {
    const double = ['train.decoder.base=nf4', 'train.decoder.doubleQuantised=true'];
    expect(set(...double).train.decoder).toMatchObject({
      lora: { rank: 16 },
      base: 'nf4',
      doubleQuantised: true,
    });
    const tower = { base: 'fp8', doubleQuantised: false };
    expect(set('train.vision.base=fp8').train.vision).toEqual(tower);
    expect(set('optimizer.betas.1=0.95').optimizer.betas).toEqual([0.9, 0.95]);
    const memory = (policy: string, keepBlocks: number, ...set: string[]) =>
      checkRecipe({ ...MINIMAL, memory: { policy, keepBlocks } }, { set }).memory;
    expect(memory('keep', 0, 'memory.policy.decoder=products').policy).toEqual({
      vision: 'keep',
      projector: 'keep',
      decoder: 'products',
    });
    expect(memory('attention', 0, 'memory.policy.vision=offload').policy).toEqual({
      vision: 'offload',
      projector: 'recompute',
      decoder: 'attention',
    });
    const blocks = (assignment: string) => memory('recompute', 4, assignment).keepBlocks;
    expect(blocks('memory.keepBlocks.vision=2')).toEqual({ vision: 2, decoder: 4 });
    const levels = { decoder: { keep: 4, products: 2 } };
    expect(blocks('memory.keepBlocks.decoder.products=2')).toEqual(levels);
  });

  test('puts no base beneath what trains fully', () => {
    const full = { ...MINIMAL, train: { decoder: 'full' } };
    expect(() => checkRecipe(full, { set: ['train.decoder.base=nf4'] })).toThrow(
      '--set train.decoder.base=nf4: train.decoder.base: train.decoder is "full", and what is in few bits cannot learn: ' +
        'set train.decoder.lora first, or train.decoder=frozen',
    );
    const lora = ['train.decoder.lora.rank=8', 'train.decoder.base=nf4'];
    expect(checkRecipe(full, { set: lora }).train.decoder).toMatchObject({
      lora: { rank: 8 },
      base: 'nf4',
    });
    const frozen = ['train.decoder=frozen', 'train.decoder.base=nf4'];
    expect(checkRecipe(full, { set: frozen }).train.decoder).not.toHaveProperty('lora');
  });

  test('replaces all data by a file, counted from the working directory', () => {
    const set = [`data.sources=${JSON.stringify(['./my: data.json'])}`];
    const [source, ...more] = checkRecipe(MINIMAL, { set, cwd: folder }).data.sources;
    expect(source).toEqual({ path: join(folder, 'my: data.json'), weight: 1 });
    expect(more).toEqual([]);
  });

  test.each([
    [
      'optimizer.learningrate=1',
      'optimizer.learningrate: unknown key. Did you mean "learningRate"?',
    ],
    ['learningRate=1', 'learningRate: unknown key here. Did you mean optimizer.learningRate'],
    ['optimizer', 'expected FIELD=VALUE, such as optimizer.learningRate=2e-5'],
    ['=3', 'expected FIELD=VALUE'],
    ['optimizer.betas=[0.9', 'optimizer.betas: '],
    ['batchSize=eight', 'batchSize: expected a whole number of at least 1, got "eight"'],
    ['data.sources.5.weight=2', 'data.sources: the list has 1 item, counted from 0'],
    ['validation.sources.0.weight=2', 'validation.sources.0.path: is missing: expected a text'],
    ['train.decoder.lora.rank=0', 'train.decoder.lora.rank: expected a whole number'],
    ['__proto__.x=1', '__proto__: unknown key'],
  ])('%s is refused by its own name', async (assignment, message) => {
    const found = await faults(() => set(assignment));
    expect(found[0]).toContain(`--set ${assignment}: ${message}`);
  });
});
