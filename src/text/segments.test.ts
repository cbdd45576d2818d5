import { expect, it } from 'vitest';

import { createFormat } from './format.js';
import { segmentsOf } from './segments.js';
import { dialogue, fixtureTokenizer } from './testing.js';

it('shows a sample as text, special tokens and images, learned or not', async () => {
  const tokenizer = await fixtureTokenizer('../llava/llama3/hf');
  const question = { role: 'user', content: [{ type: 'image', image: 0 }] } as const;
  const [, answer] = dialogue('', 'Yes, 日本.');
  const { ids, labels } = createFormat(tokenizer).training([question, answer!]);
  const segments = segmentsOf(tokenizer, { inputIds: ids, labels });
  expect(segments.map(({ kind, text, supervised }) => `${kind} ${text} ${supervised}`)).toEqual([
    'special <|begin_of_text|> false',
    'special <|start_header_id|> false',
    'text user false',
    'special <|end_header_id|> false',
    'text \n\n false',
    'image <image> false',
    'text \n false',
    'special <|eot_id|> false',
    'special <|start_header_id|> false',
    'text assistant false',
    'special <|end_header_id|> false',
    'text \n\n false',
    'text Yes, 日本. true',
    'special <|eot_id|> true',
  ]);
  expect(segments.reduce((sum, { tokens }) => sum + tokens, 0)).toBe(ids.length);

  const expanded = segmentsOf(tokenizer, { inputIds: [510, 510, 510], labels: [-100, -100, -100] });
  expect(expanded).toEqual([{ kind: 'image', text: '<image>', tokens: 3, supervised: false }]);
});
