import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { fixture, fixtureJson } from '../models/testing.js';
import { endOfTurnIn, exportChatModel } from './export-chat-model.js';

const [END_OF_TEXT, END_OF_TURN] = [506, 509];

describe('eos_token_id of an export', () => {
  let root: string;
  let base: string;
  let count = 0;
  beforeAll(() => {
    root = mkdtempSync(join(tmpdir(), 'patina-export-'));
    base = join(root, 'base');
    cpSync(fixture('llama3', 'hf'), base, { recursive: true });
    const tokenizer = fixtureJson('llama3', 'hf', 'tokenizer_config.json');
    write(base, 'tokenizer_config.json', { ...tokenizer, eos_token: '<|end_of_text|>' });
    write(base, 'generation_config.json', { eos_token_id: END_OF_TEXT });
    rmSync(join(base, 'chat_template.jinja'));
  });
  afterAll(() => rmSync(root, { recursive: true }));

  const write = (folder: string, name: string, json: object): void =>
    writeFileSync(join(folder, name), JSON.stringify(json));

  async function endsOf(layout: 'hf' | 'official', chatTemplate: string): Promise<unknown> {
    const folder = join(root, `out-${count++}`);
    await exportChatModel(base, layout, folder, { chatTemplate });
    const text = readFileSync(join(folder, 'generation_config.json'), 'utf8');
    return (JSON.parse(text) as Record<string, unknown>)['eos_token_id'];
  }

  const ending = (end: string): string =>
    `{% for m in messages %}{{ m.role }}: {{ m.content }}${end}{% endfor %}` +
    '{% if add_generation_prompt %}assistant: {% endif %}';

  test.each(['hf', 'official'] as const)('contains what ends a turn: %s', async (layout) => {
    expect(await endsOf(layout, ending('<|eot_id|>'))).toEqual([END_OF_TEXT, END_OF_TURN]);
    expect(await endsOf(layout, ending('<|end_of_text|>'))).toBe(END_OF_TEXT);
  });

  test('stays where the template does not say it, or cannot be read', async () => {
    expect(await endsOf('hf', ending('\n'))).toBe(END_OF_TEXT);
    expect(await endsOf('hf', '{% if %}')).toBe(END_OF_TEXT);
    expect(await endOfTurnIn(join(root, 'nowhere'), ending(''))).toBeUndefined();
  });

  test('is what ends a turn where no file names one', async () => {
    rmSync(join(base, 'generation_config.json'));
    const config = fixtureJson('llama3', 'hf', 'config.json');
    const text = { ...(config['text_config'] as object), eos_token_id: END_OF_TEXT };
    write(base, 'config.json', { ...config, text_config: text });
    expect(await endsOf('hf', ending('<|eot_id|>'))).toEqual([END_OF_TEXT, END_OF_TURN]);
  });
});
