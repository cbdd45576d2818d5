/**
 * A built-in recipe over a model of LLaVA-Llama-3-8B's shape with random weights and the quickstart's records, to be run where nothing can be
 * downloaded: one record in nine has no picture, micro-batches have one record, and no checkpoint is written in between.
 *
 *     node dist/bench/random-recipe.js FOLDER llava-llama-3-8b-lora [--layers 32] [--hidden 4096] [--device cuda]
 *
 * Writes FOLDER/RECIPE.json, and what it reads into FOLDER/data if it is not there.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { UsageError } from '../src/base/errors.js';
import { jsonText } from '../src/base/json-text.js';
import type { RecipeInput } from '../src/config/index.js';
import { builtInRecipe } from '../src/recipes/index.js';
import {
  isPrepared,
  prepareQuickstart,
  QUICKSTART_IMAGE_TOKEN,
} from '../src/recipes/quickstart/prepare.js';
import { runBench } from './command.js';
import type { Conversation } from './noisy-answers.js';
import { llava8bJson } from './shapes.js';

const { values: flags, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    layers: { type: 'string', default: '32' },
    hidden: { type: 'string', default: '4096' },
    device: { type: 'string', default: 'cuda' },
  },
});

/** Records with a picture for each without. */
const WITH_PICTURE = 8;

await runBench(async () => {
  const [folder, name] = positionals;
  if (folder === undefined || name === undefined) {
    throw new UsageError('which recipe, and where?', {
      code: 'E_USAGE',
      hint: 'Give a folder and the name of a built-in recipe: llava-llama-3-8b-lora.',
    });
  }
  const { train } = builtInRecipe(name);
  const data = join(folder, 'data');
  if (!(await isPrepared(data))) await prepare(data);
  const shape = llava8bJson({ layers: Number(flags.layers), hidden: Number(flags.hidden) });
  const recipe: RecipeInput = {
    ...{ name, train, batchSize: 1, accumulate: 1, device: flags.device },
    model: {
      config: { ...shape, image_token_index: QUICKSTART_IMAGE_TOKEN },
      tokenizer: './data/tokenizer',
    },
    data: { sources: ['./data/mixed.json'] },
    optimizer: { learningRate: 2e-5 },
    schedule: { updates: 1000 },
    checkpoints: { everyUpdates: 5000 },
  };
  await writeFile(join(folder, `${name}.json`), jsonText(recipe));
});

async function prepare(data: string): Promise<void> {
  await prepareQuickstart(data);
  // They are for the quickstart's own small tower.
  await rm(join(data, 'tokenizer', 'preprocessor_config.json'));
  const records = JSON.parse(
    await readFile(join(data, 'questions.json'), 'utf8'),
  ) as Conversation[];
  const text = records
    .filter((_, i) => i % WITH_PICTURE === 0)
    .map((_, i) => ({
      id: `text-${i}`,
      conversations: [
        { from: 'human', value: `What is ${i} plus one?` },
        { from: 'gpt', value: `${i + 1}.` },
      ],
    }));
  await writeFile(join(data, 'mixed.json'), jsonText([...records, ...text]));
}
