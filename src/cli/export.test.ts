import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, describe, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { CHATML_TEMPLATE } from '../text/chatml-template.js';
import { main } from './main.js';

const FIXTURES = join(packageRoot(), 'test', 'fixtures', 'llava');
const MODEL = join(FIXTURES, 'llama3', 'hf');
const SMALL = join(FIXTURES, 'llama31-tied-small');

const root = mkdtempSync(join(tmpdir(), 'patina-export-'));
afterAll(() => rmSync(root, { recursive: true }));

async function patina(...args: string[]): Promise<{ code: number; out: string; err: string }> {
  const texts = { out: '', err: '' };
  const writer = (name: 'out' | 'err') => ({ write: (text: string) => (texts[name] += text) });
  const code = await main(['export', ...args], { stdout: writer('out'), stderr: writer('err') });
  return { code, ...texts };
}

describe('patina export', () => {
  test('writes a folder and says what it did', async () => {
    const folder = join(root, 'model');
    const { code, out, err } = await patina(MODEL, '--to', 'hf', folder, '--dtype', 'bfloat16');
    expect(code).toBe(0);
    expect(err).toBe('');
    expect(out).toBe(
      `${folder}: for transformers, 203K parameters in bfloat16, 397 KiB in 7 files\n  105 tensors converted from float32 to bfloat16.\n`,
    );
    expect(readdirSync(folder)).toHaveLength(7);
  });

  test('prints one JSON object', async () => {
    const folder = join(root, 'json');
    const { out } = await patina(MODEL, '--to', 'official', folder, '--json');
    expect(JSON.parse(out)).toMatchObject({ folder, layout: 'official', dtype: 'float32' });
  });

  test('writes GGUF files, and says what reading them back has found', async () => {
    const folder = join(root, 'gguf');
    const args = [MODEL, '--to', 'gguf', folder, '--type', 'bf16', '--check'];
    const { code, out } = await patina(...args);
    expect(code).toBe(0);
    expect(out).toContain(`${folder}: for llama.cpp, 189K parameters in bf16`);
    expect(out).toContain('model-bf16.gguf was read back: 30 tensors as in the source.');
    expect(out).toContain('ggml-org/llama.cpp#25814');
    expect(readdirSync(folder)).toEqual(['Modelfile', 'mmproj-bf16.gguf', 'model-bf16.gguf']);
  });

  test("gives Llama 3's template a place for pictures", async () => {
    const source = join(root, 'without-template');
    cpSync(MODEL, source, { recursive: true });
    rmSync(join(source, 'chat_template.jinja'));
    const { out } = await patina(source, '--to', 'hf', join(root, 'with-template'));
    expect(out).toContain('There is no chat template: one of the same form');
    const template = readFileSync(join(root, 'with-template', 'chat_template.jinja'), 'utf8');
    expect(template).toContain("'image'");
  });

  test("gives Qwen's template a place for pictures", async () => {
    const source = join(root, 'qwen-without-template');
    cpSync(join(FIXTURES, 'siglip-qwen2', 'hf'), source, { recursive: true });
    writeFileSync(join(source, 'chat_template.jinja'), "{{ messages[0]['content'] }}");
    const { out } = await patina(source, '--to', 'hf', join(root, 'qwen-with-template'));
    expect(out).toContain('The chat template gives pictures no place: one of the same form');
    const file = join(root, 'qwen-with-template', 'chat_template.jinja');
    expect(readFileSync(file, 'utf8')).toBe(CHATML_TEMPLATE);
  });

  test.each([
    [['x'], 'E_USAGE'],
    [[MODEL, '--to', 'hf'], 'E_USAGE'],
    [[MODEL, '--to', 'ggml', 'x'], 'E_USAGE'],
    [[MODEL, '--to', 'hf', 'x', '--type', 'q8_0'], 'E_LAYOUT_LIMIT'],
    [[MODEL, '--to', 'hf', 'x', '--check'], 'E_LAYOUT_LIMIT'],
    [[MODEL, '--to', 'peft', 'x', '--merge'], 'E_LAYOUT_LIMIT'],
    [[MODEL, '--to', 'gguf', 'x', '--dtype', 'float32'], 'E_LAYOUT_LIMIT'],
    [[MODEL, '--to', 'gguf', 'x', '--quantise', 'nf4'], 'E_LAYOUT_LIMIT'],
    [[MODEL, '--to', 'hf', 'x', '--seed', '-1'], 'E_USAGE'],
    [[MODEL, '--to', 'hf', 'x', '--shard-gb', '0'], 'E_USAGE'],
    [[MODEL, '--to', 'hf', 'x', '--dtype', 'int8'], 'E_USAGE'],
    [[MODEL, '--inspect', 'x'], 'E_USAGE'],
    [[MODEL, '--inspect', '--to', 'hf'], 'E_USAGE'],
    [[MODEL, '--inspect', '--changed-base', '--vision', 'x'], 'E_USAGE'],
  ])('%j is refused', async (args, expected) => {
    const { code, err } = await patina(...args);
    expect(code).toBe(2);
    expect(err).toContain(expected);
  });
});

test('a template that is not there, or is none, is refused before anything is written', async () => {
  const broken = join(root, 'broken.jinja');
  writeFileSync(broken, '{% for %}');
  for (const [file, wanted, expected] of [
    [join(root, 'nowhere.jinja'), 'E_FILE_MISSING', 4],
    [broken, 'E_TEMPLATE_SYNTAX', 4],
  ] as const) {
    const { code, err } = await patina(MODEL, '--to', 'hf', 'x', '--chat-template', file);
    expect(err).toContain(wanted);
    expect(code).toBe(expected);
  }
});

test('a choice that a file has made already is told', async () => {
  const choices = ['--feature-layer', '-1', '--select', 'full'];
  const { out } = await patina(MODEL, '--to', 'hf', join(root, 'chosen'), ...choices);
  expect(out).toContain('The configuration says layer -2; -1 was not used.');
  expect(out).toContain('The configuration says default; full was not used.');
});

describe('patina export --inspect', () => {
  test('a whole model', async () => {
    const { out } = await patina('--inspect', MODEL);
    expect(out).toBe(
      [
        MODEL,
        '  Hugging Face LLaVA, as transformers 5.6 and later write it',
        '    105 tensors in 1 file',
        '  vision    82.5K parameters in 71 tensors, F32, 322 KiB',
        '  projector 4.32K parameters in 4 tensors, F32, 16.9 KiB',
        '  decoder   91.7K parameters in 29 tensors, F32, 358 KiB',
        '  head      24.6K parameters in 1 tensor, F32, 96.0 KiB',
        '',
      ].join('\n'),
    );
  });

  test('a part with what is ignored, as JSON', async () => {
    const { out } = await patina('--inspect', join(SMALL, 'clip-full'), '--json');
    const found = JSON.parse(out) as { sources: { ignored: Record<string, number> }[] };
    expect(found).toMatchObject({
      missing: ['projector', 'decoder', 'head'],
      lacks: ['image processor'],
      faults: [],
    });
    expect(found.sources[0]!.ignored).toMatchObject({
      'the tower for text plays no part in LLaVA': expect.any(Number) as number,
    });
  });

  test('what does not fit its configuration', async () => {
    const source = join(root, 'torn');
    cpSync(join(SMALL, 'hf'), source, { recursive: true });
    cpSync(join(MODEL, 'config.json'), join(source, 'config.json'));
    const { out, code } = await patina('--inspect', source);
    expect(code).toBe(0);
    expect(out).toMatch(/missing parts: head/);
    cpSync(join(SMALL, 'hf'), source, { recursive: true });
    const { out: whole } = await patina('--inspect', source);
    expect(whole).not.toContain('fault');
    expect(whole).toContain('not beside it: tokenizer, chat template, image processor\n');
  });
});
