import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { createFormat } from './format.js';
import { textMessage, type Message } from './message.js';
import { dialogue, fixture, fixtureTokenizer, readFixture, tokensOf } from './testing.js';
import { Tokenizer } from './tokenizer.js';

interface NativeCase {
  id: string;
  tokenizer: string;
  template: string;
  map_fn: string | null;
  record: { conversation: { system?: string; input: string; output: string }[] };
  input_ids?: number[];
  labels?: number[];
}

const cases = gunzipSync(readFileSync(fixture('encode/cases.jsonl.gz')))
  .toString('utf8')
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line) as NativeCase);

describe("XTuner's formats", () => {
  it.each(['v085-native-system.llama3', 'v085-native-system.vicuna', 'v089-native-round.vicuna'])(
    'system texts and braces: %s',
    async (id) => {
      const { tokenizer, template, record, input_ids, labels } = cases.find((x) => x.id === id)!;
      const messages = record.conversation.flatMap(({ system, input, output }): Message[] => [
        ...(system === undefined ? [] : [textMessage('system', system)]),
        ...dialogue(input, output),
      ]);
      const format = createFormat(await fixtureTokenizer(tokenizer), { template });
      const encoded = format.training(messages);
      expect(encoded.ids).toEqual(input_ids);
      expect(encoded.labels).toEqual(labels);
    },
  );

  it('a prompt is what stands before the answer in training', async () => {
    for (const [name, template] of [
      ['tokenizer', 'llama3_chat'],
      ['tokenizer-qwen', 'qwen_chat'],
      ['tokenizer-vicuna', 'vicuna'],
    ] as const) {
      const format = createFormat(await fixtureTokenizer(name), { template });
      const messages = dialogue('Hi', 'Hello!', 'Why?', 'So.');
      const { ids } = format.training(messages);
      const prompt = format.prompt(messages.slice(0, 3));
      expect(ids.slice(0, prompt.ids.length)).toEqual(prompt.ids);
      expect(tokensOf(format.tokenizer, prompt)).toMatch(/(Ċ|:)$/);
      expect(() => format.prompt(messages)).toThrow(/end with a message of the user/);
    }
  });

  it('end a turn by their suffix, else by the end token', async () => {
    const llama3 = createFormat(await fixtureTokenizer('tokenizer'), { template: 'llama3_chat' });
    const vicuna = createFormat(await fixtureTokenizer('tokenizer-vicuna'), { template: 'vicuna' });
    const qwen = createFormat(await fixtureTokenizer('tokenizer-qwen'), { template: 'qwen_chat' });
    const ends = [llama3, vicuna, qwen].map(({ endOfTurn }) => endOfTurn);
    expect(ends).toEqual([1509, 2, qwen.tokenizer.idOf('<|im_end|>')]);
  });

  it('know which of their tokens a tokenizer lacks', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer-vicuna');
    expect(createFormat(tokenizer, { template: 'vicuna' }).missingTokens).toEqual([]);
    expect(createFormat(tokenizer, { template: 'llama3_chat' }).missingTokens).toEqual([
      ...['<|start_header_id|>', '<|end_header_id|>', '<|eot_id|>'],
    ]);
  });

  it('vicuna needs an end token', () => {
    const [layout] = readFixture('encode/layouts.json.gz') as { tokenizer: object }[];
    const tokenizer = new Tokenizer({ tokenizer: layout!.tokenizer });
    expect(() => createFormat(tokenizer, { template: 'vicuna' })).toThrow(/eos_token/);
  });
});
