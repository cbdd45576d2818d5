import { describe, expect, it } from 'vitest';

import { createFormat } from './format.js';
import { loadTokenizer } from './load-tokenizer.js';
import { IMAGE_ID } from '../models/sample.js';
import type { Message } from './message.js';
import { readSpecialFrame } from './post-processor.js';
import { dialogue, fixture } from './testing.js';

const BOS = 505;
const turns = '{% for m in messages %}{{ m.role }}: {{ m.content }} {% endfor %}';
const header = '{% if add_generation_prompt %}assistant: {% endif %}';
const withBos = `{{ bos_token }}${turns}${header}`;

const llava = () => loadTokenizer(fixture('llava/llama3/hf'));

describe('the first token of a model with a processor', () => {
  const format = async (source: string, hasProcessor: boolean) =>
    createFormat(await llava(), { template: { source, name: 'test' }, hasProcessor });

  it('is added where the template does not write it, and is not learned', async () => {
    const [bare, whole] = [await format(turns + header, false), await format(turns + header, true)];
    const messages = dialogue('a', 'b', 'c', 'd');
    const { ids, labels } = bare.training(messages);
    expect(ids).not.toContain(BOS);
    expect(whole.training(messages)).toEqual({
      ids: [BOS, ...ids],
      labels: [-100, ...labels],
      images: [],
    });
    const question = dialogue('a');
    expect(whole.prompt(question).ids).toEqual([BOS, ...bare.prompt(question).ids]);
  });

  it('is not doubled where the template writes it', async () => {
    const [bare, whole] = [await format(withBos, false), await format(withBos, true)];
    const messages = dialogue('a', 'b');
    expect(whole.training(messages)).toEqual(bare.training(messages));
    expect(whole.training(messages).ids.filter((id) => id === BOS)).toHaveLength(1);
  });

  it('is not what a text spells', async () => {
    const source = '{% for m in messages %}{{ m.content }}\n{% endfor %}';
    const { ids } = (await format(source, true)).prompt(dialogue('<|begin_of_text|>'));
    expect(ids.filter((id) => id === BOS)).toHaveLength(1);
  });

  it('stands before an image that comes first', async () => {
    const source = '{% for m in messages %}{{ m.content }}{% endfor %}';
    const content: Message['content'] = [
      { type: 'image', image: 0 },
      { type: 'text', text: 'a' },
    ];
    const { ids, images } = (await format(source, true)).prompt([{ role: 'user', content }]);
    expect(ids.slice(0, 2)).toEqual([BOS, IMAGE_ID]);
    expect(images).toEqual([0]);
  });

  it("is left to XTuner's formats", async () => {
    const tokenizer = await llava();
    const template = 'llama3_chat';
    const ids = (hasProcessor: boolean) =>
      createFormat(tokenizer, { template, hasProcessor }).training(dialogue('a', 'b')).ids;
    expect(ids(true)).toEqual(ids(false));
  });
});

describe('post_processor', () => {
  const template = (single: unknown[]) => ({
    type: 'TemplateProcessing',
    single,
    special_tokens: { b: { ids: [1] }, e: { ids: [2, 3] } },
  });
  const special = (id: string) => ({ SpecialToken: { id, type_id: 0 } });
  const text = { Sequence: { id: 'A', type_id: 0 } };

  it.each<[unknown, number[], number[]]>([
    [null, [], []],
    [{ type: 'ByteLevel' }, [], []],
    [template([special('b'), text]), [1], []],
    [template([special('b'), text, special('e')]), [1], [2, 3]],
    [
      { type: 'Sequence', processors: [{ type: 'ByteLevel' }, template([special('b'), text])] },
      [1],
      [],
    ],
    [
      {
        type: 'Sequence',
        processors: [template([special('b'), text]), template([special('e'), text, special('b')])],
      },
      [2, 3, 1],
      [1],
    ],
  ])('%j', (json, before, after) => {
    expect(readSpecialFrame(json)).toEqual({ before, after });
  });

  it.each<[unknown, string]>([
    [7, 'E_TOKENIZER_BROKEN'],
    [template([special('x'), text]), 'E_TOKENIZER_BROKEN'],
    [template([special('b')]), 'E_TOKENIZER_BROKEN'],
    [{ type: 'Sequence' }, 'E_TOKENIZER_BROKEN'],
    [{ type: 'RobertaProcessing' }, 'E_TOKENIZER_UNSUPPORTED'],
  ])('%j is a typed error', (json, code) => {
    expect(() => readSpecialFrame(json)).toThrow(expect.objectContaining({ code }) as Error);
  });
});
