import { describe, expect, test } from 'vitest';

import type { ChatFormat, Encoding } from './chat-format.js';
import { CHATML_TEMPLATE } from './chatml-template.js';
import { createFormat } from './format.js';
import { LLAMA3_TEMPLATE } from './llama3-template.js';
import { textMessage, type Message } from './message.js';
import { templateSource } from './template-source.js';
import { dialogue, fixtureTokenizer, tokensOf } from './testing.js';

const FORMATS = [
  ['tokenizer', 'llama3_chat'],
  ['tokenizer-qwen', 'qwen_chat'],
  ['tokenizer-vicuna', 'vicuna'],
] as const;

/** What the ids say; SentencePiece puts blanks before stretches that XTuner encodes apart, which no template does. */
function textOf(format: ChatFormat, { ids }: Encoding): string {
  const text = tokensOf(format.tokenizer, { ids, labels: ids }).replace(/[[\]]/g, '');
  return format.tokenizer.tokenOf(2) === '</s>' ? text.replace(/[▁ ]/g, '') : text;
}

const picture: Message = {
  role: 'user',
  content: [
    { type: 'image', image: 0 },
    { type: 'text', text: 'What is in it?' },
  ],
};

describe.each(FORMATS)("XTuner's format for %s: %s", (folder, template) => {
  test.each<[string, readonly Message[]]>([
    ['one turn', dialogue('Hi there', 'Hello!')],
    ['turns with blanks around them', dialogue(' Hi ', ' Hello! ', 'Why?\n', "It's so.")],
    [
      'a system text',
      [textMessage('system', 'You know {all}.'), ...dialogue('Hi', 'Ho', 'a', 'b')],
    ],
    ['a picture', [picture, textMessage('assistant', 'A cat.'), ...dialogue('Where?', 'There.')]],
  ])('%s is the same as a template', async (_name, messages) => {
    const tokenizer = await fixtureTokenizer(folder);
    const format = createFormat(tokenizer, { template });
    const source = templateSource(format, null)!;
    const written = createFormat(tokenizer, { template: { source, name: 'written out' } });
    for (const question of [1, messages.length].map((at) => messages.slice(0, at))) {
      if (question.at(-1)!.role !== 'user') continue;
      const [wanted, found] = [format, written].map((each) => textOf(each, each.prompt(question)));
      expect(found).toBe(wanted);
    }
    const [wanted, found] = [format, written].map((each) => textOf(each, each.training(messages)));
    expect(found).toBe(wanted);
  });
});

describe('a system text', () => {
  const system = 'You are a "pirate".\nSay so; \\n is no line end.';

  test.each([
    ...FORMATS.map(([folder, name]) => [folder, name, null] as const),
    ['tokenizer', 'of texts', LLAMA3_TEMPLATE] as const,
    ['tokenizer-qwen', 'of ChatML', CHATML_TEMPLATE] as const,
    [
      'tokenizer',
      'of parts',
      "{% for m in messages %}{{ m['role'] + ': ' }}{% for p in m['content'] %}{% if p['type'] == 'image' %}<image>{% else %}{{ p['text'] }}{% endif %}{% endfor %}{{ eos_token }}{% endfor %}",
    ] as const,
  ])('begins what brings none: %s, %s', async (folder, name, source) => {
    const tokenizer = await fixtureTokenizer(folder);
    const plain = createFormat(tokenizer, {
      template: source === null ? name : { source, name },
    });
    const written = templateSource(plain, source, { system })!;
    const format = createFormat(tokenizer, { template: { source: written, name: 'written' } });
    const asked = dialogue('Who are you?');
    const [own, other] = [system, 'You are none.'].map((text) => textMessage('system', text));
    const idsOf = (messages: readonly Message[], by: ChatFormat = format): string =>
      textOf(by, by.prompt(messages));
    expect(idsOf(asked)).toEqual(idsOf([own!, ...asked], plain));
    expect(idsOf([other!, ...asked])).toEqual(idsOf([other!, ...asked], plain));
  });

  test('has no place in a template that knows none', async () => {
    const format = { name: 'mute', tokenizer: await fixtureTokenizer('tokenizer') };
    expect(templateSource(format, "{{ messages[-1]['content'] }}", { system })).toBeUndefined();
    const strict = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no') }}{% endif %}";
    expect(templateSource(format, strict, { system })).toBeUndefined();
  });
});
