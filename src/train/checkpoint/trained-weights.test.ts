import { cpSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import type { RecipeInput } from '../../config/index.js';
import { readSafetensors } from '../../formats/safetensors/header.js';
import { readSpan } from '../../formats/stored.js';
import { loadChatModel } from '../../generate/index.js';
import { ColourFolder, TINY_CONFIG } from '../testing-files.js';
import { train } from '../train.js';
import type { TrainableRow } from '../prepare/trainable.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());

/** The checkpoint after one update. */
async function checkpoint(more: Partial<RecipeInput> = {}): Promise<string> {
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
  const processor = readFileSync(join(from, 'processor_config.json'), 'utf8');
  const { image_processor: image } = JSON.parse(processor) as { image_processor: object };
  writeFileSync(join(from, 'preprocessor_config.json'), JSON.stringify(image));
  rmSync(join(from, 'processor_config.json'));
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

test('a whole model says where its run taught answers to end, beside what its files say', async () => {
  const from = folder.at('ends');
  cpSync(await checkpoint(), from, { recursive: true });
  const file = 'generation_config.json';
  const { eos_token_id: taught } = JSON.parse(readFileSync(join(from, file), 'utf8')) as {
    eos_token_id: number;
  };
  writeFileSync(join(from, file), JSON.stringify({ eos_token_id: 7 }));
  const whole = await checkpoint({ model: { from, tokenizer: folder.at('tokenizer') } });
  expect(JSON.parse(readFileSync(join(whole, file), 'utf8'))).toMatchObject({
    eos_token_id: [7, taught],
  });
});

test('embeddings that are the head too, beside adapters, are written as both, and read back', async () => {
  const text_config = { ...TINY_CONFIG.text_config, tie_word_embeddings: true };
  const tokenizer = folder.at('tokenizer');
  const from = await checkpoint({
    model: { config: { ...TINY_CONFIG, text_config, tie_word_embeddings: true }, tokenizer },
  });
  const saved = { modulesToSave: ['*embed_tokens'] };
  const adapter = await checkpoint({
    model: { from, tokenizer },
    train: { vision: 'frozen', projector: 'frozen', decoder: { lora: { rank: 2, ...saved } } },
  });
  const { tensors } = await readSafetensors(join(adapter, 'adapter_model.safetensors'));
  const named = (end: string) => tensors.find(({ name }) => name.endsWith(end))!;
  const [embeddings, head] = [named('embed_tokens.weight'), named('.lm_head.weight')];
  expect(Buffer.from(await readSpan(head))).toEqual(Buffer.from(await readSpan(embeddings)));
  const config = readFileSync(join(adapter, 'adapter_config.json'), 'utf8');
  expect(JSON.parse(config)).toMatchObject({
    ensure_weight_tying: true,
    modules_to_save: ['model.language_model.embed_tokens', 'lm_head'],
  });
  const { model } = await loadChatModel(adapter, { base: from, tokenizer });
  const loaded = model.namedParameters().get('model.language_model.embed_tokens.weight')!;
  expect(Buffer.from(loaded.toBytes())).toEqual(Buffer.from(await readSpan(embeddings)));
  model.dispose();
});

describe('an adapter that trains on', () => {
  const form = { rank: 2, alpha: 6, dropout: 0.25, rslora: true };
  const byLora = (lora: object) =>
    ({ vision: 'frozen', projector: 'frozen', decoder: { lora } }) as const;
  let model: RecipeInput['model'];

  beforeAll(async () => {
    const from = await checkpoint();
    model = { from, tokenizer: folder.at('tokenizer') };
    const adapter = await checkpoint({ model, train: byLora({ ...form, targets: ['*.q_proj'] }) });
    model = { ...model, adapter };
  });

  async function settings(lora: object): Promise<Record<string, unknown>> {
    const path = join(await checkpoint({ model, train: byLora(lora) }), 'adapter_config.json');
    return JSON.parse(readFileSync(path, 'utf8')) as Record<string, unknown>;
  }

  const Q = 'model.language_model.layers.0.self_attn.q_proj';
  const V = 'model.language_model.layers.0.self_attn.v_proj';

  test('stays on its layers and keeps its form, whatever the recipe says of new ones', async () => {
    expect(await settings({ rank: 16, alpha: 32, dropout: 0.5 })).toMatchObject({
      target_modules: [Q],
      ...{ r: 2, lora_alpha: 6, lora_dropout: 0.25, use_rslora: true },
    });
    const table = await tableOf({ model, train: byLora({ rank: 16 }) });
    expect(table.map(({ kind }) => kind)).toEqual(['frozen', 'frozen', 'rsLoRA r 2', 'frozen']);
  });

  test('has new ones beside it where they are named', async () => {
    const made = await settings({ ...form, rank: 3, targets: ['*.v_proj'] });
    expect(made['target_modules']).toEqual([Q, V]);
    expect(
      [made['r'], ...Object.values(made['rank_pattern'] as Record<string, number>)].sort(),
    ).toEqual([2, 3]);
  });

  async function tableOf(more: Partial<RecipeInput>): Promise<readonly TrainableRow[]> {
    for await (const event of train(folder.recipe(more), { dryRun: true })) {
      if (event.type === 'start') return event.table;
    }
    throw new Error('the run had no start');
  }
});
