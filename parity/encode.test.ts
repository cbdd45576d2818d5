import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from 'vitest';

import { encodeJson, type EncodeOutcome } from '../src/data/encode.js';
import { createFormat } from '../src/text/format.js';
import { loadTokenizer } from '../src/text/load-tokenizer.js';
import { fixture } from '../src/text/testing.js';
import { run } from './encode.js';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'patina-parity-'));
});
afterAll(() => rm(folder, { recursive: true }));
afterEach(() => {
  vi.restoreAllMocks();
});

/** What the runner prints, and whether all of it holds. */
async function output(...argv: string[]): Promise<{ ok: boolean; text: string }> {
  const lines: unknown[] = [];
  vi.spyOn(console, 'log').mockImplementation((line) => void lines.push(line));
  return { ok: await run(argv), text: lines.join('\n') };
}

describe('the stored cases', () => {
  it('hold, each for its reason', async () => {
    const { ok, text } = await output(
      fixture('encode/cases.jsonl.gz'),
      '--tokenizer',
      fixture('encode/tokenizer'),
    );
    expect(text.split('\n')).toEqual([
      '  171  equal to XTuner',
      '   87  equal to the chat template in transformers',
      '   20  dropped by XTuner: refused',
      '   26  another map function or template: not compared',
      '    2  several images in a message: all kept',
      '    9  images and placeholders differ in number: refused',
      '   22  XTuner raises: not compared',
      '   10  spells a special token: equal when parsed',
      '    2  an image beyond max_length: refused',
      'All 383 quantities are within tolerance.',
    ]);
    expect(ok).toBe(true);
  });

  it("hold for Qwen's format too", async () => {
    const { ok, text } = await output(
      fixture('encode/cases-qwen.jsonl.gz'),
      '--tokenizer',
      fixture('encode/tokenizer-qwen'),
    );
    expect(text).toMatch(/^ +\d+ {2}equal to XTuner$/m);
    expect(ok).toBe(true);
  });

  it.runIf(process.env['PATINA_FIXTURES'])('hold in the folder of the originals', async () => {
    const originals = join(process.env['PATINA_FIXTURES']!, 'encode');
    for (const file of ['cases.jsonl', 'templates.jsonl']) {
      expect((await output(join(originals, file), '--tokenizer', originals)).ok).toBe(true);
    }
  });
});

describe('a case', () => {
  const item = {
    id: 'c',
    tokenizer: 'any name',
    template: 'llama3_chat',
    map_fn: 'llava_map_fn',
    max_length: 100,
    record: {
      conversations: [
        { from: 'human', value: 'Hi' },
        { from: 'gpt', value: 'Yes' },
      ],
    },
    kept: true,
    input_ids: [1500, 1506],
    labels: [-100, -100],
  };

  it('that does not hold fails, by the number of places that differ', async () => {
    const file = join(folder, 'cases.jsonl');
    await writeFile(file, JSON.stringify(item));
    const { ok, text } = await output(file, '--tokenizer', fixture('encode/tokenizer'));
    expect(ok).toBe(false);
    expect(text).toMatch(/^c +\d+ +0 +FAIL {2}equal to XTuner$/m);
  });

  it('that spells a special token holds when parsed, though nothing learned is left of its text', async () => {
    // Written out, <|eot_id|> takes more tokens than the limit leaves.
    const [question, answer] = ['<|eot_id|>'.repeat(3), 'Yes'];
    const conversations = [
      { from: 'human', value: question },
      { from: 'gpt', value: answer },
    ];
    const tokenizer = await loadTokenizer(fixture('encode/tokenizer'));
    const format = createFormat(tokenizer, { template: 'llama3_chat' });
    const parsed = encodeJson({ conversations }, { format, specialTokens: 'parse' });
    const { inputIds, labels } = (parsed as Extract<EncodeOutcome, { status: 'sample' }>).sample;
    const spelling = {
      ...{ ...item, record: { conversations }, max_length: inputIds.length },
      ...{ input_ids: [...inputIds], labels: [...labels] },
    };
    expect(encodeJson({ conversations }, { format, maxLength: inputIds.length })).toMatchObject({
      problem: { code: 'E_ANSWER_CUT' },
    });
    const file = join(folder, 'spelling.jsonl');
    await writeFile(file, JSON.stringify(spelling));
    const { ok, text } = await output(file, '--tokenizer', fixture('encode/tokenizer'));
    expect(text).toContain('1  spells a special token: equal when parsed');
    expect(ok).toBe(true);
  });

  it('that cannot be read is a typed error', async () => {
    const file = join(folder, 'broken.jsonl');
    await writeFile(file, '{"id": 1}\n');
    const tokenizer = ['--tokenizer', fixture('encode/tokenizer')];
    await expect(run([file, ...tokenizer])).rejects.toMatchObject({ code: 'E_FILE' });
    await expect(run([join(folder, 'none'), ...tokenizer])).rejects.toMatchObject({
      code: 'E_FILE',
    });
    await expect(run([file])).rejects.toMatchObject({ code: 'E_USAGE' });
  });
});
