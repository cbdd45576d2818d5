import { describe, expect, test } from 'vitest';

import { createFormat, type FormatOptions } from '../text/format.js';
import { fixtureTokenizer } from '../text/testing.js';
import { formatWarnings } from './warnings.js';

const turns = (end: string, start = ''): string =>
  `${start}{% for m in messages %}{{ m.role }}: {{ m.content }}${end}{% endfor %}` +
  '{% if add_generation_prompt %}assistant: {% endif %}';

async function format(source: string, options: FormatOptions = {}) {
  const template = { source, name: 'test' };
  return createFormat(await fixtureTokenizer('tokenizer'), { template, ...options });
}

describe('of a template that ends an answer by', () => {
  test.each<[string, string, boolean]>([
    ['a special token', turns('<|eot_id|>'), true],
    ['the end token', turns('{{ eos_token }}'), true],
    ['one after answers alone', turns("{{ eos_token if m.role == 'assistant' }}"), true],
    ['the end of a line', turns('\n'), false],
    ['nothing', turns(''), false],
    ['what it refuses to say', "{{ raise_exception('no') }}", true],
  ])('%s', async (_, source, isEnd) => {
    expect(formatWarnings(await format(source)).includes('end-not-learned')).toBe(!isEnd);
  });

  test('a token that the model stops on, whatever its kind', async () => {
    const found = await format(turns('#', '{{ bos_token }}'));
    expect(formatWarnings(found)).toEqual(['end-not-learned']);
    expect(formatWarnings(found, found.tokenizer.encode('#'))).toEqual([]);
  });
});

test("of XTuner's formats nothing is odd, but where the tokenizer is another's", async () => {
  for (const [name, template] of [
    ['tokenizer', 'llama3_chat'],
    ['tokenizer-vicuna', 'vicuna'],
  ] as const) {
    expect(formatWarnings(createFormat(await fixtureTokenizer(name), { template }))).toEqual([]);
  }
  const stranger = createFormat(await fixtureTokenizer('tokenizer-vicuna'), {
    template: 'llama3_chat',
  });
  expect(formatWarnings(stranger)).toEqual(['format-tokens-missing', 'end-not-learned']);
});

test('a first token that is left out is told, unless a processor adds it', async () => {
  const source = turns('<|eot_id|>');
  expect(formatWarnings(await format(source))).toEqual(['first-token-missing']);
  expect(formatWarnings(await format(source, { hasProcessor: true }))).toEqual([]);
});
