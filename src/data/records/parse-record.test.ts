import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { parseRecord } from './parse-record.js';
import type { ChatRecord } from './record.js';

const H = (value: unknown) => ({ from: 'human', value });
const G = (value: unknown) => ({ from: 'gpt', value });

function record(json: unknown): ChatRecord {
  const parsed = parseRecord(json);
  if (!parsed.ok) throw new Error(parsed.problem.message);
  return parsed.record;
}

const text = (value: string) => ({ type: 'text', text: value });
const image = (number: number) => ({ type: 'image', image: number });

describe("LLaVA's form", () => {
  it('takes placeholders of questions for images, and leaves answers alone', () => {
    const conversations = [H('a <image> b'), G('<image>')];
    expect(record({ id: 7, image: 'x.jpg', conversations, extra: 1 })).toEqual({
      id: 7,
      images: ['x.jpg'],
      messages: [
        { role: 'user', content: [text('a '), image(0), text(' b')] },
        { role: 'assistant', content: [text('<image>')] },
      ],
    });
  });

  it('takes several images in the order of their places', () => {
    const conversations = [H('<image><image>'), G('x'), H('y<image>'), G('z')];
    const { images, messages } = record({ image: ['a', 'b', 'c'], conversations });
    expect(images).toEqual(['a', 'b', 'c']);
    const places = messages.flatMap(({ content }) => content.filter((x) => x.type === 'image'));
    expect(places).toEqual([image(0), image(1), image(2)]);
  });

  it.each([
    ['no id', { conversations: [H('a'), G('b')] }],
    ['null', { id: null, image: null, images: null, conversations: [H('a'), G('b')] }],
    ['no images', { image: [], conversations: [H('a'), G('b')] }],
    [
      'other roles',
      {
        conversations: [
          { from: 'user', value: 'a' },
          { from: 'assistant', value: 'b' },
        ],
      },
    ],
    [
      'role and content',
      {
        conversations: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: 'b' },
        ],
      },
    ],
  ])('needs no more than a question and an answer: %s', (_, json) => {
    expect(record(json).id).toBeNull();
    expect(record(json).messages.map(({ role }) => role)).toEqual(['user', 'assistant']);
  });
});

describe("OpenAI's form", () => {
  const answer = { role: 'assistant', content: 'ok' };

  it('takes texts with placeholders and a list of images', () => {
    const messages = [
      { role: 'system', content: 'Be kind. <image>' },
      { role: 'user', content: '<image>hi' },
      answer,
    ];
    const { images, messages: read } = record({ messages, images: ['a.png'] });
    expect(images).toEqual(['a.png']);
    expect(read.map(({ role }) => role)).toEqual(['system', 'user', 'assistant']);
    expect(read[0]!.content).toEqual([text('Be kind. <image>')]);
  });

  it('takes parts, each image with a source of its own or the next of the list', () => {
    const content = [
      { type: 'image_url', image_url: { url: 'https://x/1.png' } },
      { type: 'text', text: 'one <image>' },
      { type: 'image' },
      { type: 'image', image: 'three.png' },
      { type: 'text', text: '\ntwo' },
    ];
    const { images, messages } = record({
      messages: [{ role: 'user', content }, answer],
      images: ['2.png'],
    });
    expect(images).toEqual(['https://x/1.png', '2.png', 'three.png']);
    expect(messages[0]!.content).toEqual([
      ...[image(0), text('\n'), text('one <image>'), image(1), text('\n'), image(2), text('\ntwo')],
    ]);
  });

  it('takes the images of a Hugging Face data set', () => {
    const bytes = Uint8Array.of(1, 2);
    const images = [{ bytes, path: 'a.png' }, { bytes: null, path: 'b.png' }, { bytes }, bytes];
    const messages = [{ role: 'user', content: '<image>'.repeat(4) }, answer];
    expect(record({ messages, images }).images).toEqual([
      { bytes, path: 'a.png' },
      'b.png',
      { bytes, path: undefined },
      { bytes, path: undefined },
    ]);
  });
});

describe('null', () => {
  const nulls = (fields: object, ...names: string[]) => ({
    ...Object.fromEntries(names.map((name) => [name, null])),
    ...fields,
  });
  const all = ['from', 'value', 'role', 'content', 'weight', 'tool_calls', 'name', 'images'];

  it('is absent in a table of both forms', () => {
    const top = ['id', 'image', 'images', 'messages', 'conversations', 'system', 'tools', 'video'];
    const forms = [
      { conversations: [nulls(H('a'), ...all), nulls(G('b'), ...all)] },
      {
        messages: [
          nulls({ role: 'user', content: 'a' }, ...all),
          nulls({ role: 'assistant', content: 'b' }, ...all),
        ],
      },
    ];
    const [one, other] = forms.map((form) => record(nulls(form, ...top)));
    expect(one).toEqual(other);
    expect(one!.messages.map(({ content }) => content)).toEqual([[text('a')], [text('b')]]);
  });

  it('is absent in parts and in images', () => {
    const part = (fields: object) =>
      nulls(fields, 'text', 'image', 'image_url', 'url', 'path', 'video', 'cache_control');
    const content = [
      part({ type: 'image', image_url: { url: null, detail: null } }),
      part({ type: 'text', text: '\nb' }),
      part({ type: 'image_url', image_url: { url: 'own.png', detail: 'low' } }),
      part({ type: 'image', image: { bytes: null, path: null } }),
      part({ type: 'image', image: { bytes: null, path: 'c.png' } }),
    ];
    const { images } = record({
      images: [{ bytes: null, path: 'a.png' }, 'b.png'],
      messages: [
        { role: 'user', content, value: null },
        { role: 'assistant', content: [part({ type: 'text', text: 'x' })] },
      ],
    });
    expect(images).toEqual(['a.png', 'own.png', 'b.png', 'c.png']);
  });

  it('is an image that is not there, of which a struct of nulls is a form', () => {
    const conversations = [H('a'), G('b')];
    expect(record({ image: { bytes: null, path: null }, conversations }).images).toEqual([]);
    const one = record({ image: null, images: ['x'], conversations: [H('<image>'), G('b')] });
    expect(one.images).toEqual(['x']);
  });

  it('is missing where a field is needed', () => {
    const message = { from: null, role: null, value: 'a', content: null };
    const parsed = parseRecord({ conversations: [message, G('b')] });
    expect(parsed).toMatchObject({ ok: false, problem: { code: 'E_RECORD_SHAPE' } });
    expect(
      parseRecord({ conversations: [H('a'), { from: 'gpt', value: null, content: null }] }),
    ).toMatchObject({
      ok: false,
      problem: { message: 'conversations[1].content is null, wanted a text or a list of parts' },
    });
  });
});

describe('a system text of the record', () => {
  const conversations = [H('a'), G('b')];
  const systemOf = (json: object) => {
    const { messages, warnings } = record(json);
    const [first] = messages;
    return [first?.role === 'system' ? first.content : undefined, warnings];
  };

  it('is its system message', () => {
    expect(systemOf({ system: 'S', conversations })).toEqual([[text('S')], undefined]);
    expect(systemOf({ system_prompt: 'S', conversations })).toEqual([[text('S')], undefined]);
    expect(systemOf({ system: '', conversations })).toEqual([undefined, undefined]);
  });

  it('counts after a message, and one that differs is told', () => {
    const said = [{ from: 'system', value: 'M' }, ...conversations];
    expect(systemOf({ system: 'S', conversations: said })).toEqual([[text('M')], ['two-systems']]);
    expect(systemOf({ system: 'M', conversations: said })).toEqual([[text('M')], undefined]);
    expect(systemOf({ system: 'S', system_prompt: 'P', conversations })).toEqual([
      [text('S')],
      ['two-systems'],
    ]);
  });
});

describe('a bad record says what is wrong', () => {
  const two = [H('a'), G('b')];
  const parts = (...content: unknown[]) => ({
    messages: [
      { role: 'user', content },
      { role: 'assistant', content: 'b' },
    ],
  });
  it.each<[string, unknown, string]>([
    ['E_RECORD_SHAPE', null, 'the record is null'],
    ['E_RECORD_SHAPE', [], 'the record is []'],
    ['E_RECORD_SHAPE', {}, 'messages is missing'],
    ['E_RECORD_SHAPE', { conversations: 'x' }, 'conversations is "x"'],
    ['E_RECORD_SHAPE', { conversations: [1] }, 'conversations[0] is 1'],
    ['E_RECORD_SHAPE', { conversations: [H('a'), G(null)] }, 'conversations[1].value is null'],
    ['E_RECORD_SHAPE', { conversations: [H(null), G('b')] }, 'conversations[0].value is null'],
    ['E_RECORD_SHAPE', { conversations: [H('a'), G(3)] }, 'conversations[1].value is 3'],
    [
      'E_RECORD_SHAPE',
      { conversations: [H('a'), { from: 'gpt' }] },
      'conversations[1].value is missing',
    ],
    [
      'E_RECORD_SHAPE',
      { conversations: [{ value: 'a' }, G('b')] },
      'conversations[0].role is missing',
    ],
    ['E_RECORD_SHAPE', { image: '', conversations: two }, 'image is ""'],
    ['E_RECORD_SHAPE', { image: 7, conversations: two }, 'image is 7'],
    ['E_RECORD_SHAPE', { image: ['a', null], conversations: two }, 'image[1] is null'],
    ['E_RECORD_SHAPE', { image: 'a', images: ['b'], conversations: two }, 'images is ["b"]'],
    ['E_RECORD_SHAPE', parts({ type: 'audio' }), 'messages[0].content[0].type is "audio"'],
    ['E_RECORD_SHAPE', parts({ type: 'image', image: 5 }), 'messages[0].content[0] is 5'],
    [
      'E_RECORD_SHAPE',
      {
        messages: [
          { role: 'user', content: 'a' },
          { role: 'assistant', content: [{ type: 'image' }] },
        ],
      },
      'only the user shows images',
    ],
    [
      'E_RECORD_ROLE',
      { conversations: [{ from: 'tool', value: 'a' }, G('b')] },
      'conversations[0] has the role "tool"',
    ],
    ['E_RECORD_ROLE', { conversations: [{ from: 'constructor', value: 'a' }] }, '"constructor"'],
    [
      'E_RECORD_ROLE',
      { conversations: [...two, { from: 'system', value: 'x' }] },
      'conversations[2] is a system message',
    ],
    ['E_RECORD_TURNS', { conversations: [] }, 'no question with an answer'],
    ['E_RECORD_TURNS', { conversations: [H('a')] }, 'no question with an answer'],
    ['E_RECORD_TURNS', { conversations: [G('a')] }, 'no question with an answer'],
    ['E_RECORD_IMAGES', { image: 'a', conversations: two }, '0 placeholders (<image>) for 1 image'],
    [
      'E_RECORD_IMAGES',
      { conversations: [H('<image>'), G('b')] },
      '1 placeholder (<image>) for 0 images',
    ],
    [
      'E_RECORD_IMAGES',
      { image: 'a', conversations: [H('<image><image>'), G('b')] },
      '2 placeholders',
    ],
    ['E_RECORD_IMAGES', { image: ['a', 'b'], conversations: [H('<image>'), G('b')] }, '2 images'],
    ['E_RECORD_IMAGES', parts({ type: 'image' }), '1 placeholder (<image>) for 0 images'],
    ['E_RECORD_TEXT', { conversations: [H('half \ud83d'), G('b')] }, 'conversations[0].value'],
    [
      'E_RECORD_TEXT',
      { image: '\udc00', conversations: [H('<image>'), G('b')] },
      'image holds half',
    ],
  ])('%s: %j', (code, json, message) => {
    const parsed = parseRecord(json);
    expect(parsed).toMatchObject({ ok: false, problem: { code } });
    expect(parsed.ok ? '' : parsed.problem.message).toContain(message);
  });

  it('with its id, if that can be read', () => {
    expect(parseRecord({ id: 'x', conversations: [] })).toMatchObject({ ok: false, id: 'x' });
    expect(parseRecord({ id: true, conversations: [] })).toMatchObject({ ok: false, id: 'true' });
    expect(parseRecord({ id: { a: [1] } })).toMatchObject({ ok: false, id: '{"a":[1]}' });
  });

  it('nested deeper than the stack is', () => {
    const deep: unknown = JSON.parse('['.repeat(100_000) + ']'.repeat(100_000));
    const message = 'id is [[..., wanted no more than a few levels';
    expect(parseRecord({ id: deep })).toMatchObject({ ok: false, problem: { message } });
    expect(parseRecord({ conversations: [H(deep), G('b')] })).toMatchObject({ ok: false });
    expect(parseRecord(JSON.parse('{"a":'.repeat(9_000) + '1' + '}'.repeat(9_000)))).toMatchObject({
      ok: false,
    });
  });

  it('whatever it is', () => {
    const value = fc.oneof(
      fc.jsonValue(),
      fc.constantFrom('<image>', 'human', 'gpt', 'text', 'image'),
    );
    const part = fc.record({ type: value, text: value, image: value }, { requiredKeys: [] });
    const message = fc.record(
      { from: value, role: value, value, content: fc.oneof(value, fc.array(part)) },
      { requiredKeys: [] },
    );
    const list = fc.oneof(value, fc.array(message, { maxLength: 4 }));
    const json = fc.record(
      { id: value, image: value, images: value, conversations: list, messages: list },
      { requiredKeys: [] },
    );
    fc.assert(
      fc.property(fc.oneof(json, fc.jsonValue()), (x) => void parseRecord(x)),
      { numRuns: 500 },
    );
  });
});
