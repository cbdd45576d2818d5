import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { defineRecipe } from '../config/define-recipe.js';
import { effectiveBatch } from '../config/effective-batch.js';
import { checkRecipe } from '../config/load-recipe.js';
import { withAbsolutePaths } from '../config/paths.js';
import { RandomGenerator } from '../torch/index.js';
import { tinyLlava } from '../train/step/testing.js';
import { prepareTrainable } from '../train/prepare/trainable.js';
import { recipes } from './built-in.js';
import { copyRecipe } from './copy-recipe.js';
import { builtInRecipe, findRecipe } from './find-recipe.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-recipes-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

const NAMES = Object.keys(recipes);

type Row = readonly [
  name: string,
  records: number,
  microBatches: number | string,
  learningRate: number,
  maxLength: number,
  learns: string,
];

/**
 * Records in an update, learning rate, maximum length and what learns, as the sources have them; micro-batches of an update on each
 * of 8 GPUs, or the tokens that one holds.
 */
const ROWS: readonly Row[] = [
  ['llava-llama-3-8b-pretrain', 256, 1, 1e-3, 2048, 'frozen full frozen'],
  ['llava-llama-3-8b-v1.1-pretrain', 256, 2, 1e-3, 4096, 'frozen full frozen'],
  ['llava-llama-3-8b-finetune', 128, '8192 tokens', 2e-5, 2048, 'lora full full'],
  ['llava-llama-3-8b-finetune-frozen-vision', 128, '8192 tokens', 2e-5, 2048, 'frozen full full'],
  ['llava-llama-3-8b-v1.1-finetune', 128, '8192 tokens', 2e-5, 4096, 'lora full full'],
  ['llava-llama-3-8b-lora', 128, '8192 tokens', 2e-4, 2048, 'frozen full lora'],
  ['llava-llama-3-8b-qlora', 128, '2048 tokens', 2e-4, 2048, 'frozen full lora'],
  ['llava-1.5-7b-pretrain', 256, 1, 1e-3, 2048, 'frozen full frozen'],
  ['llava-1.5-7b-finetune', 128, '16384 tokens', 2e-5, 2048, 'frozen full full'],
  ['llava-1.5-7b-lora', 128, '16384 tokens', 2e-4, 2048, 'frozen full lora'],
  ...['qwen2-7b', 'qwen2.5-7b', 'qwen3-8b'].flatMap((decoder): Row[] => [
    [`llava-${decoder}-pretrain`, 256, 2, 1e-3, 2048, 'frozen full frozen'],
    [`llava-${decoder}-finetune`, 128, '8192 tokens', 1e-5, 4096, 'full full full'],
    [`llava-${decoder}-lora`, 128, '16384 tokens', 2e-4, 4096, 'frozen full lora'],
  ]),
  ['llava-interleave-qwen-7b-lora', 128, '16384 tokens', 2e-4, 4096, 'frozen full lora'],
  ['llava-onevision-qwen2-7b-lora', 128, '16384 tokens', 2e-4, 16384, 'frozen full lora'],
  ['llama-3-8b-text-lora', 16, 2, 2e-4, 2048, 'frozen frozen lora'],
  ['llama-3-8b-text-full', 16, 2, 2e-5, 2048, 'frozen frozen full'],
];

test.each(ROWS)(
  '%s on 8 GPUs',
  async (name, records, microBatches, learningRate, maxLength, learns) => {
    const recipe = await findRecipe(name);
    const batching = effectiveBatch(recipe, 8);
    expect(batching.records).toBe(records);
    expect(batching.accumulate ?? `${String(recipe.batchTokens)} tokens`).toBe(microBatches);
    expect(recipe.optimizer).toMatchObject({ learningRate, weightDecay: 0, clipNorm: 1 });
    expect(recipe.text.maxLength).toBe(maxLength);
    const { vision, projector, decoder } = recipe.train;
    const parts = [vision, projector, decoder].map((part) =>
      typeof part === 'string' ? part : Object.keys(part)[0],
    );
    expect(parts.join(' ')).toBe(learns);
    expect(recipe.description).toMatch(/Numbers: .*\.$/);
  },
);

test('one card trains the same updates', async () => {
  const recipe = await findRecipe('llava-llama-3-8b-pretrain', { set: ['batchSize=1'] });
  expect(effectiveBatch(recipe, 1)).toMatchObject({ records: 256, accumulate: 256 });
});

describe('on the parameters of a LLaVA', () => {
  const LLAVAS = NAMES.filter((name) => !name.includes('text'));

  test.each(LLAVAS)('every pattern of %s matches, every part learns as it says', async (name) => {
    const { train, optimizer } = await findRecipe(name);
    const model = tinyLlava({ tiled: name.includes('onevision') });
    const generator = RandomGenerator.create(1);
    try {
      const options = { dtype: 'float32', device: 'cpu', generator } as const;
      const { table } = prepareTrainable(model, { train, optimizer, ...options });
      const rates = Object.fromEntries(
        table.flatMap(({ part, learningRate }) =>
          learningRate === null ? [] : [[part, learningRate]],
        ),
      );
      const { learningRate } = optimizer;
      const hasOwnRate = /^llava-(1\.5|((interleave|onevision)-)?qwen).*-lora$/.test(name);
      const projector = hasOwnRate ? 2e-5 : learningRate;
      expect(rates).toEqual({
        ...(train.vision !== 'frozen' && {
          vision: name.includes('qwen') ? 2e-6 : learningRate,
        }),
        ...(train.projector !== 'frozen' && { projector }),
        ...(train.decoder !== 'frozen' && { decoder: learningRate }),
      });
    } finally {
      generator.dispose();
      model.dispose();
    }
  });
});

describe('findRecipe', () => {
  test('knows names and files, and says what might be meant', async () => {
    await expect(findRecipe('llava-llama-3-8b-pretain')).rejects.toMatchObject({
      code: 'E_RECIPE_UNKNOWN',
      exitCode: 2,
      hint: 'Did you mean llava-llama-3-8b-pretrain?',
    });
    await expect(findRecipe('none.yaml')).rejects.toMatchObject({ code: 'E_RECIPE_MISSING' });
    await expect(findRecipe('constructor')).rejects.toMatchObject({ code: 'E_RECIPE_UNKNOWN' });
  });

  test('lets a recipe build upon another', async () => {
    const path = join(folder, 'mine.ts');
    writeFileSync(
      path,
      `import { defineRecipe, recipes } from 'patina';
      const base = recipes['llava-1.5-7b-lora']!;
      export default defineRecipe({ ...base, name: 'mine', seed: 7 });`,
    );
    expect(await findRecipe(path)).toMatchObject({
      ...{ name: 'mine', seed: 7, batchTokens: 16_384 },
    });
  });

  test('counts paths of built-in recipes from the working directory', async () => {
    const recipe = await findRecipe('llama-3-8b-text-lora', { cwd: folder });
    expect(recipe.data.sources[0]!.path).toBe(join(folder, 'data/train.jsonl'));
    await expect(findRecipe('llama-3-8b-text-lora', { set: ['seed=-1'] })).rejects.toThrow(
      '--set seed=-1: seed: expected a whole number',
    );
  });
});

describe('a copy', () => {
  test.each(NAMES.flatMap((name) => [`${name}.ts`, `${name}.yaml`]))(
    '%s means the same as the name',
    async (file) => {
      const name = file.replace(/\.(ts|yaml)$/, '');
      await copyRecipe(builtInRecipe(name), file, { cwd: folder });
      const path = join(folder, file);
      expect(await findRecipe(path)).toEqual(await findRecipe(name, { cwd: folder }));
    },
  );

  test.each(['beneath/mine.yaml', '../beside/mine.ts'])(
    'in another folder leads to the same files: %s',
    async (file) => {
      const cwd = join(folder, 'work');
      mkdirSync(join(cwd, file, '..'), { recursive: true });
      mkdirSync(join(cwd, 'llm'), { recursive: true });
      const recipe = defineRecipe({
        ...builtInRecipe('quickstart-questions'),
        // A folder here, a name anywhere else, a place that is the same for all.
        model: { llm: 'llm', vision: 'openai/clip', projector: '/projector', adapter: '~/adapter' },
        validation: { sources: [{ path: 'no/folder', images: 'beneath/pictures' }] },
      });
      await copyRecipe(recipe, file, { cwd });
      const copied = await findRecipe(file, { cwd });
      expect(copied).toEqual(checkRecipe(withAbsolutePaths(recipe, cwd)));
      expect(copied.model.llm).toBe(join(cwd, 'llm'));
      expect(copied.data.sources[0]!.path).toBe(join(cwd, 'runs/quickstart/questions.json'));
    },
  );

  test('reads well', async () => {
    const path = join(folder, 'read.ts');
    await copyRecipe(builtInRecipe('llama-3-8b-text-lora'), path, { cwd: folder });
    const text = readFileSync(path, 'utf8').split('\n').slice(2).join('\n');
    expect(text).toBe(`import { defineRecipe } from 'patina';

export default defineRecipe({
  name: 'llama-3-8b-text-lora',
  description: 'Llama-3-8B-Instruct learns from text conversations by LoRA. Numbers: QLoRA (arXiv 2305.14314), over bf16 weights.',
  model: { llm: 'meta-llama/Meta-Llama-3-8B-Instruct' },
  train: {
    projector: 'frozen',
    decoder: { lora: { rank: 64, alpha: 16, dropout: 0.1 } },
  },
  data: {
    sources: [
      {
        path: './data/train.jsonl',
        origin: 'your own conversations, one a line',
      },
    ],
    grouping: 'length',
  },
  optimizer: { learningRate: 2e-4 },
  schedule: { epochs: 3 },
  effectiveBatch: 16,
});
`);
  });

  test('keeps odd texts and never overwrites', async () => {
    const path = join(folder, 'odd.ts');
    const base = builtInRecipe('llama-3-8b-text-lora');
    const odd = { ...base, description: `it's "odd" \\ \n \u2028 \${x} \`y\`` };
    await copyRecipe(odd, path);
    expect((await findRecipe(path)).description).toBe(odd.description);
    await expect(copyRecipe(odd, path)).rejects.toMatchObject({ code: 'E_FILE_EXISTS' });
    await expect(copyRecipe(odd, join(folder, 'x.txt'))).rejects.toMatchObject({
      code: 'E_RECIPE_KIND',
    });
    mkdirSync(join(folder, 'sub'), { recursive: true });
    await expect(copyRecipe(odd, join(path, 'x.yaml'))).rejects.toMatchObject({
      code: 'E_UNWRITABLE',
    });
  });
});
