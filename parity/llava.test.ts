import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, expect, test, vi } from 'vitest';

import { DataError } from '../src/base/errors.js';
import { packageRoot } from '../src/base/native-path.js';
import { readSafetensors } from '../src/formats/safetensors/header.js';
import { run } from './llava.js';

const FIXTURES = join(packageRoot(), 'test', 'fixtures', 'llava');
const fixture = (variant: string, name = ''): string => join(FIXTURES, variant, name);

let folder: string;
let printed: string[];
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-parity-'));
  vi.spyOn(console, 'log').mockImplementation((line: string) => void printed.push(line));
});
afterAll(() => {
  vi.restoreAllMocks();
  rmSync(folder, { recursive: true });
});

async function runner(...argv: string[]): Promise<{ ok: boolean; text: string }> {
  printed = [];
  const ok = await run(argv);
  return { ok, text: printed.join('\n') };
}

test.each([
  'llama3',
  'llama31-tied-small',
  'siglip-qwen2',
  'siglip-qwen3',
  'next-llama3',
  'next-mistral-tied-small',
  'next-siglip-small',
  'onevision-qwen2',
])('%s', async (variant) => {
  await expect(async () => {
    const { ok, text } = await runner(fixture(variant));
    expect(text).toMatch(/All \d+ quantities are within tolerance/);
    expect(ok).toBe(true);
  }).toLeakNothing();
});

test.each(['products', 'attention', 'recompute', 'offload'])(
  'gradients are those of the reference when segments keep %s',
  async (policy) => {
    const { ok, text } = await runner(fixture('llama3'), '--policy', policy, '--packed');
    expect(text).toMatch(
      /^micro-batch 0: 3 records in one row of \d+ tokens \(\d+ \+ \d+ \+ \d+\)$/m,
    );
    expect(ok).toBe(true);
  },
);

test('features that are interpolated have the gradients of the reference in packed rows too', async () => {
  const flags = ['--policy', 'recompute', '--packed'];
  const { ok } = await runner(fixture('onevision-qwen2'), ...flags);
  expect(ok).toBe(true);
});

test('without any answer it names what is missing, and --out writes all that was computed', async () => {
  const bare = join(folder, 'bare');
  cpSync(fixture('llama3', 'hf'), join(bare, 'hf'), { recursive: true });
  cpSync(fixture('llama3', 'inputs.safetensors'), join(bare, 'inputs.safetensors'));
  const out = join(folder, 'out');
  const { text } = await runner(bare, '--out', out);
  for (const name of ['outputs.safetensors', 'gradients.safetensors', 'facts.json', 'official']) {
    expect(text).toContain(`${name} is not there`);
  }
  // A second time writes the same again.
  await runner(bare, '--out', out);
  expect(readdirSync(out).sort()).toEqual(['gradients.safetensors', 'outputs.safetensors']);
  for (const name of readdirSync(out)) {
    expect(await shapes(join(out, name))).toEqual(await shapes(fixture('llama3', name)));
  }
});

test('facts without their answers: questions are answered, and what is missing is named', async () => {
  const bare = join(folder, 'questions');
  cpSync(fixture('llama31-tied-small'), bare, { recursive: true });
  for (const name of ['outputs.safetensors', 'gradients.safetensors']) rmSync(join(bare, name));
  const file = join(bare, 'facts.json');
  const { generation } = JSON.parse(readFileSync(file, 'utf8')) as {
    generation: { pictures: string[]; user: string; input_ids: number[] }[];
  };
  const facts = {
    loss: null,
    bf16: {},
    trajectories: { runs: { full: { lr: 2e-3 } } },
    // The weights have no tokenizer beside them, so the ids are a part of the question.
    generation: generation
      .slice(0, 1)
      .map(({ pictures, user, input_ids }) => ({ pictures, user, input_ids })),
  };
  writeFileSync(file, JSON.stringify(facts));
  const out = join(folder, 'answers');
  const { ok, text } = await runner(bare, '--out', out);
  expect(ok).toBe(true);
  for (const name of ['loss', 'without_gradient', 'new_tokens of prompt 0']) {
    expect(text).toContain(`facts.json: ${name} is not there`);
  }
  expect(readdirSync(out).sort()).toEqual([
    'generation.json',
    'gradients.safetensors',
    'outputs.safetensors',
  ]);
});

test('files are written although the answers cannot be read', async () => {
  const broken = join(folder, 'broken');
  for (const name of ['hf', 'inputs.safetensors']) {
    cpSync(fixture('llama31-tied-small', name), join(broken, name), { recursive: true });
  }
  writeFileSync(join(broken, 'outputs.safetensors'), 'broken');
  const out = join(folder, 'nevertheless');
  await expect(runner(broken, '--out', out)).rejects.toBeInstanceOf(DataError);
  expect(readdirSync(out)).toEqual(['gradients.safetensors', 'outputs.safetensors']);
});

test('a wrong answer and a broken layout fail their rows alone', async () => {
  const wrong = join(folder, 'wrong');
  cpSync(fixture('llama31-tied-small'), wrong, { recursive: true });
  cpSync(fixture('llama31-tied-small', 'hf'), join(wrong, 'hf-old'), { recursive: true });
  rmSync(join(wrong, 'hf-old', 'config.json'));
  cpSync(fixture('llama3', 'outputs.safetensors'), join(wrong, 'outputs.safetensors'));
  const { ok, text } = await runner(wrong);
  expect(ok).toBe(false);
  expect(text).toMatch(/^logits .*FAIL/m);
  expect(text).toMatch(/^logits of layout hf-old .*FAIL {2}E_NO_CONFIG/m);
  expect(text).toMatch(/^gradient of model\.language_model\.norm\.weight .*ok$/m);
});

test('other folders, devices and policies are refused', async () => {
  await expect(runner(folder)).rejects.toMatchObject({ code: 'E_FILE_MISSING' });
  await expect(runner(fixture('llama3'), '--device', 'tpu')).rejects.toMatchObject({
    code: 'E_USAGE',
  });
  await expect(runner(fixture('llama3'), '--policy', 'most')).rejects.toMatchObject({
    message: 'parity llava cannot run with --policy most.',
    hint: 'Give one of keep, products, attention, recompute, offload.',
  });
});

async function shapes(path: string): Promise<Record<string, readonly number[]>> {
  const { tensors } = await readSafetensors(path);
  return Object.fromEntries(tensors.map(({ name, shape }) => [name, shape]));
}
