import { execFileSync } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { loadTokenizer } from './load-tokenizer.js';
import { fixture, readFixture } from './testing.js';

const [layout] = readFixture('encode/layouts.json.gz') as { tokenizer: object }[];

let root: string;
let count = 0;
beforeAll(async () => {
  root = await mkdtemp(join(tmpdir(), 'patina-tokenizer-'));
});
afterAll(() => rm(root, { recursive: true }));

async function folderOf(files: Record<string, unknown>): Promise<string> {
  const folder = await mkdtemp(join(root, `${++count}-`));
  for (const [name, content] of Object.entries(files)) {
    const text = typeof content === 'string' ? content : JSON.stringify(content);
    await writeFile(join(folder, name), text);
  }
  return folder;
}

describe('a folder', () => {
  it('gives its template: chat_template.jinja, chat_template.json, the configuration', async () => {
    const files = {
      'tokenizer.json': layout!.tokenizer,
      'tokenizer_config.json': { chat_template: 'from the configuration' },
    };
    const json = { ...files, 'chat_template.json': { chat_template: 'from json' } };
    const jinja = { ...json, 'chat_template.jinja': 'from jinja' };
    const template = async (x: Record<string, unknown>): Promise<string | undefined> =>
      (await loadTokenizer(await folderOf(x))).chatTemplate;
    expect(await template(files)).toBe('from the configuration');
    expect(await template(json)).toBe('from json');
    expect(await template(jinja)).toBe('from jinja');
    expect(await template({ 'tokenizer.json': layout!.tokenizer })).toBeUndefined();
  });

  it('names the image token in processor_config.json', async () => {
    const folder = await folderOf({
      'tokenizer.json': layout!.tokenizer,
      'processor_config.json': { image_token: '[IMG]' },
    });
    expect((await loadTokenizer(folder)).imageToken).toBe('[IMG]');
    expect((await loadTokenizer(fixture('llava/llama3/hf'))).imageTokenId).toBe(510);
  });

  it('without tokenizer.json, or with what is not JSON, is a typed error that names the file', async () => {
    await expect(loadTokenizer(join(root, 'nowhere'))).rejects.toMatchObject({
      code: 'E_TOKENIZER_MISSING',
    });
    const cut = await folderOf({ 'tokenizer.json': '{"model":' });
    await expect(loadTokenizer(cut)).rejects.toMatchObject({
      code: 'E_TOKENIZER_BROKEN',
      message: expect.stringContaining(join(cut, 'tokenizer.json')) as unknown,
    });
    const huge = await folderOf({
      'tokenizer.json': layout!.tokenizer,
      'chat_template.jinja': 'x'.repeat(2 ** 20 + 1),
    });
    await expect(loadTokenizer(huge)).rejects.toMatchObject({ code: 'E_TOKENIZER_BROKEN' });
    const pipe = await folderOf({});
    execFileSync('mkfifo', [join(pipe, 'tokenizer.json')]);
    await expect(loadTokenizer(pipe)).rejects.toMatchObject({ code: 'E_TOKENIZER_BROKEN' });
  });
});
