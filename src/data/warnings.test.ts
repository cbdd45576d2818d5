import { expect, it } from 'vitest';

import { createFormat } from '../text/format.js';
import { loadTokenizer } from '../text/load-tokenizer.js';
import { fixture } from '../text/testing.js';
import { formatWarnings } from './warnings.js';

const turns = '{% for m in messages %}{{ m.role }}: {{ m.content }}';
const header = '{% endfor %}{% if add_generation_prompt %}assistant: {% endif %}';

it.each<[string, string, string[]]>([
  ['ends and begins as it should', `{{ bos_token }}${turns}<|eot_id|>${header}`, []],
  ['teaches no end', `{{ bos_token }}${turns} ${header}`, ['end-not-learned']],
  ['has no first token', `${turns}<|eot_id|>${header}`, ['first-token-missing']],
  ['has neither', `${turns} ${header}`, ['end-not-learned', 'first-token-missing']],
])('a template that %s', async (_what, source, expected) => {
  const tokenizer = await loadTokenizer(fixture('llava/llama3/hf'));
  const format = createFormat(tokenizer, { template: { source, name: 'test' } });
  expect(formatWarnings(format)).toEqual(expected);
});

it('a token on which the model stops is an end, whatever the tokenizer says of it', async () => {
  const tokenizer = await loadTokenizer(fixture('llava/llama3/hf'));
  const source = `{{ bos_token }}${turns}!${header}`;
  const format = createFormat(tokenizer, { template: { source, name: 'test' } });
  expect(formatWarnings(format)).toEqual(['end-not-learned']);
  expect(formatWarnings(format, [tokenizer.idOf('!')!])).toEqual([]);
});

it('a template that takes no such conversation tells nothing: its records will', async () => {
  const tokenizer = await loadTokenizer(fixture('llava/llama3/hf'));
  const template = { source: "{{ raise_exception('no') }}", name: 'test' };
  expect(formatWarnings(createFormat(tokenizer, { template }))).toEqual([]);
});
