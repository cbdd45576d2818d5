import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { RecipeInput } from '../config/index.js';
import { loadChatModel } from '../generate/index.js';
import { ColourFolder } from './testing-files.js';
import { train } from './train.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());

/** The checkpoint after one update. */
async function checkpoint(more: Partial<RecipeInput>): Promise<string> {
  for await (const event of train(folder.recipe(more), { maxUpdates: 1 })) {
    if (event.type === 'end') return event.checkpoint!;
  }
  throw new Error('the run had no end');
}

async function modeOf(source: string): Promise<string> {
  const { model, pictures } = await loadChatModel(source, { tokenizer: folder.at('tokenizer') });
  model.dispose();
  return pictures!.mode;
}

test('a checkpoint says how its pictures were prepared, whatever the files of its model say', async () => {
  const first = await checkpoint({ image: { mode: 'crop' } });
  expect(await modeOf(first)).toBe('crop');

  const from = folder.at('model');
  cpSync(first, from, { recursive: true });
  const image = JSON.parse(readFileSync(join(from, 'preprocessor_config.json'), 'utf8')) as object;
  const nested = { image_processor: image, patch_size: 4 };
  writeFileSync(join(from, 'processor_config.json'), JSON.stringify(nested));
  rmSync(join(from, 'preprocessor_config.json'));
  expect(await modeOf(from)).toBe('crop');

  const model = { from, tokenizer: folder.at('tokenizer') };
  expect(await modeOf(await checkpoint({ model }))).toBe('pad');
  const lora = { rank: 2, alpha: 4 };
  const adapter = await checkpoint({
    model,
    train: { vision: 'frozen', projector: 'frozen', decoder: { lora } },
  });
  expect(await modeOf(adapter)).toBe('pad');
});
