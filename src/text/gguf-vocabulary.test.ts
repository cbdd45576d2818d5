import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import type { GgufMetadata } from '../formats/gguf/types.js';
import { ggufVocabulary } from './gguf-vocabulary.js';

const root = mkdtempSync(join(tmpdir(), 'patina-vocabulary-'));
afterAll(() => rmSync(root, { recursive: true }));
const stored = (name: string): string => join(packageRoot(), 'test', 'fixtures', 'encode', name);

/* eslint-disable @typescript-eslint/no-explicit-any, @typescript-eslint/no-unsafe-member-access, @typescript-eslint/no-unsafe-call, @typescript-eslint/no-unsafe-assignment, @typescript-eslint/no-unsafe-return, @typescript-eslint/no-unsafe-argument */

/** A stored tokenizer with its `tokenizer.json` changed. */
function changed(name: string, change: (json: any) => void): string {
  const folder = mkdtempSync(join(root, 'x'));
  cpSync(stored(name), folder, { recursive: true });
  const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  change(json);
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(json));
  return folder;
}

/** What a merge makes, in either of its spellings. */
const madeBy = (pair: any): string => (Array.isArray(pair) ? pair : pair.split(' ')).join('');

const get = (metadata: GgufMetadata, key: string): any => {
  const found = metadata.get(`tokenizer.ggml.${key}`);
  return found === undefined || found.type === 'array' ? found?.values : found.value;
};

test("Llama 3's vocabulary: merges, kinds, rows without a token, ids of special tokens", async () => {
  const { metadata, tokenizer, notes } = await ggufVocabulary(stored('tokenizer'), 1800);
  expect([get(metadata, 'model'), get(metadata, 'pre')]).toEqual(['gpt2', 'llama-bpe']);
  expect(get(metadata, 'tokens')).toHaveLength(1800);
  expect(get(metadata, 'tokens')[1500]).toBe('<|begin_of_text|>');
  expect(get(metadata, 'tokens')[1799]).toBe('[PAD1799]');
  const kinds = [0, 1500, 1799].map((id) => get(metadata, 'token_type')[id]);
  expect(kinds).toEqual([1, 3, 5]);
  expect(get(metadata, 'merges')[0]).toMatch(/^\S+ \S+$/);
  expect(get(metadata, 'bos_token_id')).toBe(tokenizer.bosId);
  expect([get(metadata, 'add_bos_token'), get(metadata, 'add_eos_token')]).toEqual([true, false]);
  expect(notes).toEqual([]);
});

test('tokens beyond the rows of the embeddings are left out, and told', async () => {
  const { metadata, notes } = await ggufVocabulary(stored('tokenizer'), 1500);
  expect(get(metadata, 'tokens')).toHaveLength(1500);
  expect(get(metadata, 'bos_token_id')).toBeUndefined();
  expect(notes).toEqual([expect.stringMatching(/^\d+ of the tokenizer's tokens have no row/)]);
});

test.each([
  ['qwen2', false, '\\p{N}'],
  ['smaug-bpe', false, '\\p{N}{1,3}'],
] as const)('words cut as %s', async (name, ignoreMerges, digits) => {
  const folder = changed('tokenizer', (json) => {
    json.model.ignore_merges = ignoreMerges;
    const { pattern } = json.pre_tokenizer.pretokenizers[0];
    pattern.Regex = pattern.Regex.replace('\\p{N}{1,3}', digits);
  });
  expect(get((await ggufVocabulary(folder, 1800)).metadata, 'pre')).toBe(name);
});

test("SentencePiece's: scores in the order of merges, bytes, the unknown token", async () => {
  const folder = stored('tokenizer-vicuna-legacy');
  const { metadata, tokenizer, notes } = await ggufVocabulary(folder, 1500);
  expect([get(metadata, 'model'), get(metadata, 'pre')]).toEqual(['llama', 'default']);
  const json = JSON.parse(readFileSync(join(folder, 'tokenizer.json'), 'utf8'));
  const scores = get(metadata, 'scores');
  const made = [...new Set<string>(json.model.merges.map(madeBy))];
  made.forEach((token, rank) =>
    expect(scores[tokenizer.idOf(token) as number]).toBe(rank === 0 ? -0 : -rank),
  );
  const kinds = [0, 1, tokenizer.idOf('<0x0A>')!, tokenizer.idOf(made[0])!];
  expect(kinds.map((id) => get(metadata, 'token_type')[id])).toEqual([2, 3, 6, 1]);
  expect(get(metadata, 'add_space_prefix')).toBe(true);
  expect(notes).toEqual([]);
});

test('blanks that llama.cpp adds are told', async () => {
  const { notes } = await ggufVocabulary(stored('tokenizer-vicuna'), 1500);
  expect(notes).toEqual([expect.stringContaining('puts a blank before')]);
});

test.each([
  [
    'tokenizer',
    'another pattern',
    (json: any) => (json.pre_tokenizer.pretokenizers[0].pattern.Regex = '\\p{L}+|\\P{L}+'),
  ],
  [
    'tokenizer',
    'a blank before every text',
    (json: any) => (json.pre_tokenizer = { type: 'ByteLevel', add_prefix_space: true }),
  ],
  ['tokenizer', 'another form of characters', (json: any) => (json.normalizer = { type: 'NFKC' })],
  ['tokenizer-vicuna', 'no bytes', (json: any) => (json.model.byte_fallback = false)],
  [
    'tokenizer-vicuna',
    'a merge less',
    ({ model }: any) => {
      const made: string[] = model.merges.map(madeBy);
      model.merges.splice(
        made.findIndex((token, i) => token === made[i - 1]),
        1,
      );
    },
  ],
  [
    'tokenizer-vicuna',
    'merges of a token apart',
    (json: any) => json.model.merges.push(json.model.merges[0]),
  ],
  [
    'tokenizer-vicuna',
    'both kinds of marks',
    (json: any) => (json.normalizer = { type: 'Prepend', prepend: '▁' }),
  ],
])('%s with %s is refused', async (name, _, change) => {
  await expect(ggufVocabulary(changed(name, change), 1800)).rejects.toMatchObject({
    code: 'E_TOKENIZER_UNSUPPORTED',
  });
});
