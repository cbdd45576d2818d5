/** The way that the guide describes: parts, a first stage, a second one on what it left, an answer; all by the command line. */
import { cpSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { readSafetensors } from '../formats/safetensors/header.js';
import { ColourFolder, TINY_CONFIG } from '../train/testing-files.js';
import { patina } from './testing.js';

const VISION = join(packageRoot(), 'test/fixtures/llava/llama31-tied-small/clip-full');

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());

const at = (...path: string[]): string => folder.at(...path);

async function train(...args: string[]): Promise<string> {
  const { code, err } = await patina('train', ...args);
  expect(code, err).toBe(0);
  return err;
}

/** What of a checkpoint bears these letters in its name, by the end of the name. */
async function tensors(run: string, part: string): Promise<Map<string, Buffer>> {
  const folder = at('runs', run, 'checkpoints');
  const checkpoint = join(folder, readdirSync(folder).at(-1)!);
  const name = readdirSync(checkpoint).find((each) => /model\.safetensors$/.test(each))!;
  const bytes = readFileSync(join(checkpoint, name));
  const { tensors } = await readSafetensors(join(checkpoint, name));
  return new Map(
    tensors
      .filter((tensor) => tensor.name.includes(part))
      .map((tensor) => [
        tensor.name.replace(/^.*projector\./, ''),
        bytes.subarray(tensor.offset, tensor.offset + tensor.bytes),
      ]),
  );
}

test('pre-training leaves the projector that fine-tuning starts from', async () => {
  // A decoder with its tokenizer, as a run leaves it.
  const recipe = folder.recipe({
    name: 'decoder',
    model: { config: TINY_CONFIG.text_config, tokenizer: at('tokenizer') },
    train: { projector: 'frozen', decoder: 'full' },
    data: { sources: [folder.writeRecords('text.jsonl', [TEXT])], workers: 0 },
    schedule: { updates: 1 },
    run: { root: folder.runs, name: 'decoder' },
  });
  writeFileSync(at('decoder.json'), JSON.stringify(recipe));
  await train(at('decoder.json'));
  cpSync(at('runs/decoder/checkpoints/update-00000001'), at('llm'), { recursive: true });

  const sets = [
    `model.llm=${at('llm')}`,
    `model.vision=${VISION}`,
    'text.template=auto',
    'effectiveBatch=4',
    'batchSize=2',
    'data.workers=0',
    `run.root=${folder.runs}`,
  ].flatMap((set) => ['--set', set]);
  const common = [...sets, '--data', at('one.jsonl')];
  const first = await train('llava-llama-3-8b-pretrain', ...common, '--set', 'run.name=stage-1');
  expect(first).toMatch(/projector +full +4 /);
  const learnt = await tensors('stage-1', 'projector');
  expect(learnt.size).toBe(4);

  const from = ['--set', `model.projector=${at('runs/stage-1')}`];
  for (const stage of ['llava-llama-3-8b-lora', 'llava-1.5-7b-lora', 'llava-1.5-7b-finetune']) {
    const more = [...from, '--set', `run.name=${stage}`, '--max-updates', '1'];
    await train(stage, ...common, ...more);
    // The rate of the first update is 0.
    expect(await tensors(stage, 'projector')).toEqual(learnt);
  }

  const adapter = at('runs/llava-llama-3-8b-lora');
  const full = at('runs/llava-1.5-7b-finetune');
  const ask = ['--image', at('0.png'), '--max-new-tokens', '4', 'What colour is it?'];
  for (const named of [
    [at('llm'), '--vision', VISION, '--adapter', adapter],
    [full, '--llm', at('llm'), '--vision', VISION],
    // A run stands for its checkpoint, and an adapter knows what it lies on.
    [at('llm'), '--vision', VISION, '--adapter', at('runs/llava-llama-3-8b-lora')],
    [at('runs/llava-llama-3-8b-lora'), '--vision', VISION],
    [at('runs/llava-1.5-7b-finetune'), '--llm', at('llm'), '--vision', VISION],
  ]) {
    const { code, err } = await patina('chat', ...named, ...ask);
    expect(code, err).toBe(0);
  }
});

test('the run of an adapter is talked to and shown without naming what it lies on', async () => {
  const records = folder.writeRecords('text.jsonl', [TEXT]);
  const train1 = { data: { sources: [records], workers: 0 }, schedule: { updates: 1 } };
  const text = folder.recipe({
    name: 'text-base',
    model: { config: TINY_CONFIG.text_config, tokenizer: at('tokenizer') },
    train: { projector: 'frozen', decoder: 'full' },
    ...train1,
    run: { root: folder.runs, name: 'text-base' },
  });
  writeFileSync(at('text-base.json'), JSON.stringify(text));
  await train(at('text-base.json'));
  const adapter = folder.recipe({
    name: 'text-lora',
    model: { from: at('runs/text-base') },
    train: { projector: 'frozen', decoder: { lora: {} } },
    ...train1,
    run: { root: folder.runs, name: 'text-lora' },
  });
  writeFileSync(at('text-lora.json'), JSON.stringify(adapter));
  await train(at('text-lora.json'));
  const run = at('runs/text-lora');
  const answer = await patina('chat', run, '--max-new-tokens', '4', 'What colour is it?');
  expect(answer.code, answer.err).toBe(0);
  for (const option of ['--model', '--tokenizer']) {
    const shown = await patina('show', option, run, '--data', records, '--index', '0');
    expect(shown.code, shown.err).toBe(0);
    expect(shown.out).toContain('It is red.');
  }
});

const TEXT = {
  conversations: [
    { from: 'human', value: 'What colour is it?' },
    { from: 'gpt', value: 'It is red.' },
  ],
};
