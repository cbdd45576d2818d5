import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { cases } from '../base/testing.js';
import type { ChatFormat } from '../text/chat-format.js';
import { createFormat } from '../text/format.js';
import { fixtureTokenizer, tokensOf } from '../text/testing.js';
import { encodeJson, expandImages, type EncodedSample, type EncodeOptions } from './encode.js';
import { WARNINGS } from './warnings.js';

const llama3 = async (): Promise<ChatFormat> =>
  createFormat(await fixtureTokenizer('tokenizer'), { template: 'llama3_chat' });
const vicuna = async (): Promise<ChatFormat> =>
  createFormat(await fixtureTokenizer('tokenizer-vicuna'), { template: 'vicuna' });

const record = (image: unknown, ...texts: string[]): unknown => ({
  id: 'r',
  image,
  conversations: texts.map((value, i) => ({ from: i % 2 === 0 ? 'human' : 'gpt', value })),
});

function sample(json: unknown, options: EncodeOptions): EncodedSample {
  const outcome = encodeJson(json, options);
  if (outcome.status !== 'sample') throw new Error(JSON.stringify(outcome));
  return outcome.sample;
}

const shown = ({ inputIds, labels }: EncodedSample, format: ChatFormat): string =>
  tokensOf(format.tokenizer, { ids: [...inputIds], labels: [...labels] });

const problem = (json: unknown, options: EncodeOptions): string | undefined => {
  const outcome = encodeJson(json, options);
  return outcome.status === 'bad' ? outcome.problem.code : undefined;
};

// Every case of XTuner's own is in parity/encode.test.ts; here is, one by one, what is different on purpose.
describe('differences from XTuner', () => {
  it('text that spells a special token stays text, unless it is to be parsed', async () => {
    const format = await llama3();
    const json = record(null, 'What is <|eot_id|>?', 'It ends a turn.');
    const kept = sample(json, { format });
    expect([...kept.inputIds].filter((id) => id === 1509)).toHaveLength(2);
    expect(kept.warnings).toEqual(['special-tokens-as-text']);
    const parsed = sample(json, { format, specialTokens: 'parse' });
    expect([...parsed.inputIds].filter((id) => id === 1509)).toHaveLength(3);
    expect(parsed.warnings).toEqual([]);
  });

  it('several images of a message are kept in their places, a single one moves to the front', async () => {
    const format = await llama3();
    const several = sample(record(['a', 'b'], ' A: <image> B: <image>', 'x'), { format });
    expect(several.images).toEqual(['a', 'b']);
    expect(shown(several, format)).toContain('ĊĊ ĠA : Ġ <-200> ĠB : Ġ <-200> <|eot_id|>');
    const single = sample(record('a', ' Look <image> here ', 'x'), { format });
    expect(shown(single, format)).toContain('ĊĊ <-200> Ċ L oo k Ġ Ġhe re <|eot_id|>');
  });

  it('images and placeholders of different number are bad records', async () => {
    const format = await llama3();
    const bad: unknown[] = [
      record('a', 'no placeholder', 'x'),
      record(null, '<image>', 'x'),
      record('a', '<image>', 'x', '<image>', 'x'),
      record(['a', 'b'], '<image>', 'x'),
    ];
    for (const json of bad) expect(problem(json, { format })).toBe('E_RECORD_IMAGES');
  });

  it('an image is never cut: beyond the limit it makes the record bad', async () => {
    const format = await llama3();
    const json = record('a', 'Tell a story.', 'word '.repeat(50), '<image>', 'I see.');
    const { length, inputIds } = sample(json, { format });
    const end = inputIds.indexOf(-200) + 1;
    expect(sample(json, { format, maxLength: end }).length).toBe(end);
    expect(problem(json, { format, maxLength: end - 1 })).toBe('E_IMAGE_CUT');
    // The same place when the image is counted by its tokens.
    expect(sample(json, { format, imageTokens: 576 }).length).toBe(length + 575);
    expect(sample(json, { format, imageTokens: 576, maxLength: end + 575 }).length).toBe(end + 575);
    expect(problem(json, { format, imageTokens: 576, maxLength: end + 574 })).toBe('E_IMAGE_CUT');
  });

  it('records that XTuner refuses for form alone are encoded', async () => {
    const format = await llama3();
    const plain = sample(record(null, 'Hi', 'Hello'), { format });
    const names = {
      conversations: [
        { from: 'user', value: 'Hi' },
        { from: 'assistant', value: 'Hello' },
      ],
    };
    expect(sample(names, { format })).toEqual({ ...plain, id: null });
    const system = {
      conversations: [{ from: 'system', value: 'Be kind.' }, ...names.conversations],
    };
    expect(shown(sample(system, { format }), format)).toMatch(
      /^<\|begin_of_text\|> <\|start_header_id\|> system <\|end_header_id\|> ĊĊ/,
    );
    expect(
      problem({ ...system, conversations: [...system.conversations].reverse() }, { format }),
    ).toBe('E_RECORD_ROLE');
  });

  it('what XTuner drops is bad, with the reason', async () => {
    const format = await llama3();
    expect(problem(record(null, 'Only a question'), { format })).toBe('E_RECORD_TURNS');
    const long = record(null, 'word '.repeat(50), 'x');
    expect(problem(long, { format, maxLength: 20 })).toBe('E_ANSWER_CUT');
  });

  it('faults of order that XTuner mends silently are mended with a warning', async () => {
    const format = await vicuna();
    const messages = (roles: string): unknown => ({
      conversations: Array.from(roles, (role, i) => ({
        from: role === 'h' ? 'human' : 'gpt',
        value: `m${i}`,
      })),
    });
    const warnings = (roles: string): readonly string[] =>
      sample(messages(roles), { format }).warnings;
    expect(warnings('hghg')).toEqual([]);
    expect(warnings('ghg')).toEqual(['leading-answer']);
    expect(warnings('hgh')).toEqual(['trailing-question']);
    expect(warnings('hhg')).toEqual(['consecutive-questions']);
    expect(warnings('hgg')).toEqual(['consecutive-answers']);
    expect(warnings('gghhggh')).toEqual([
      ...['leading-answer', 'consecutive-questions', 'consecutive-answers', 'trailing-question'],
    ]);
    expect(Object.keys(WARNINGS)).toEqual(expect.arrayContaining([...warnings('gghhggh')]));
  });

  it('a system text beside another is told', async () => {
    const format = await vicuna();
    const json = { ...(record(null, 'a', 'b') as object), system: 'S', system_prompt: 'P' };
    expect(sample(json, { format }).warnings).toEqual(['two-systems']);
    expect(sample({ ...json, system_prompt: 'S' }, { format }).warnings).toEqual([]);
  });

  it('an image of a question that is dropped is dropped with it', async () => {
    const format = await vicuna();
    const json = record(['a', 'b'], '<image>', 'x', 'And <image>?');
    expect(sample(json, { format }).images).toEqual(['a']);
  });
});

it('a format whose tokens the tokenizer lacks gives a warning', async () => {
  const tokenizer = await fixtureTokenizer('tokenizer-vicuna');
  const format = createFormat(tokenizer, { template: 'llama3_chat' });
  const { warnings } = sample(record(null, 'Hi', 'Hello'), { format });
  expect(warnings).toEqual(['format-tokens-missing']);
});

describe('length', () => {
  it('that is cut, that takes the end of an answer, or that the model was not made for is told', async () => {
    const format = await llama3();
    const turns = [record(null, 'Hi', 'Hello, how are you?', 'And', 'And you?')] as const;
    const whole = sample(turns[0], { format });
    const { length } = whole;
    expect(whole.warnings).toEqual([]);
    // The answer's last word goes with its end; or its end alone.
    for (const maxLength of [length - 1, length - 2]) {
      expect(sample(turns[0], { format, maxLength }).warnings).toEqual(['truncated', 'end-cut']);
    }
    // Up to the end of the first answer nothing of it is lost.
    const first = sample(record(null, 'Hi', 'Hello, how are you?'), { format }).length;
    expect(sample(turns[0], { format, maxLength: first }).warnings).toEqual(['truncated']);
    expect(sample(turns[0], { format, context: length }).warnings).toEqual([]);
    expect(sample(turns[0], { format, context: length - 1 }).warnings).toEqual(['beyond-context']);
  });

  it("XTuner's 1472 with an image as one token is 2047 with 576", async () => {
    const format = await llama3();
    const json = record('a', '<image>\nDescribe.', 'word '.repeat(3_000));
    const ours = sample(json, { format, maxLength: 2047, imageTokens: 576 });
    const xtuners = sample(json, { format, maxLength: 1472 });
    expect(ours.inputIds).toEqual(xtuners.inputIds);
    expect(ours.inputIds).toHaveLength(1472);
    expect([ours.length, xtuners.length]).toEqual([2047, 1472]);
    expect(ours.truncated).toBe(xtuners.truncated);
  });

  it('over the limit is cut, left out, or an error', async () => {
    const format = await llama3();
    const json = record(null, 'Hi', 'Hello, how are you?');
    const whole = sample(json, { format });
    expect(whole.truncated).toBe(0);
    const cut = sample(json, { format, maxLength: whole.length - 3 });
    expect([cut.length, cut.truncated]).toEqual([whole.length - 3, 3]);
    expect(cut.supervised).toBe(whole.supervised - 3);
    expect(encodeJson(json, { format, maxLength: 5, overlong: 'skip' })).toEqual({
      status: 'overlong',
      id: 'r',
      length: whole.length,
    });
    expect(() => encodeJson(json, { format, maxLength: 5, overlong: 'stop' })).toThrow(
      `Record "r" has ${whole.length} tokens, more than the limit of 5.`,
    );
    expect(sample(json, { format, maxLength: whole.length, overlong: 'stop' })).toEqual(whole);
  });

  it('limits that are none are an error', async () => {
    const format = await llama3();
    const json = record(null, 'a', 'b');
    for (const limits of [
      { maxLength: 0 },
      { maxLength: 1.5 },
      { imageTokens: 0 },
      { maxLength: NaN },
    ]) {
      expect(() => encodeJson(json, { format, ...limits })).toThrow(/is no limit/);
    }
  });

  it('of any record: within the limit, every image whole, labels beside their ids', async () => {
    const formats = await Promise.all([llama3(), vicuna()]);
    const text = fc.oneof(
      fc.string(),
      fc.constantFrom('<image>', '<image>\nhi', 'a <image> b <image>', '</s>'),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...formats),
        fc.array(text, { minLength: 2, maxLength: 5 }),
        fc.integer({ min: 1, max: 60 }),
        fc.integer({ min: 1, max: 9 }),
        (format, texts, maxLength, imageTokens) => {
          const places =
            texts
              .filter((_, i) => i % 2 === 0)
              .join('')
              .split('<image>').length - 1;
          const images = Array.from({ length: places }, (_, i) => `${i}.png`);
          const outcome = encodeJson(record(images, ...texts), { format, maxLength, imageTokens });
          if (outcome.status !== 'sample') {
            expect(outcome).toMatchObject({ status: 'bad', problem: { code: /^E_/ } });
            return;
          }
          const { inputIds, labels, length, supervised, images: kept } = outcome.sample;
          const imageTokenId = 9_999;
          const expanded = expandImages(outcome.sample, { imageTokens, imageTokenId });
          expect(length).toBeLessThanOrEqual(maxLength);
          expect(expanded.inputIds).toHaveLength(length);
          expect(expanded.labels).toHaveLength(length);
          expect(kept).toHaveLength(inputIds.filter((id) => id === -200).length);
          labels.forEach((label, i) => expect([-100, inputIds[i]]).toContain(label));
          expect(labels.filter((label) => label !== -100)).toHaveLength(supervised);
        },
      ),
      { numRuns: cases(50) },
    );
  });
});

it('a template that does not take a record makes that record bad, not the next', async () => {
  const source =
    "{% for m in messages %}{% if m.role == 'system' %}{{ raise_exception('No system role') }}{% endif %}{{ m.role + ':' + m.content + eos_token }}{% endfor %}";
  const format = createFormat(await fixtureTokenizer('tokenizer'), {
    template: { source, name: 'strict.jinja' },
  });
  const good = record(null, 'Hi', 'Hello');
  const bad = {
    messages: [
      { role: 'system', content: 'x' },
      { role: 'user', content: 'a' },
      { role: 'assistant', content: 'b' },
    ],
  };
  const before = sample(good, { format });
  expect(encodeJson(bad, { format })).toEqual({
    status: 'bad',
    id: null,
    problem: {
      code: 'E_TEMPLATE_REFUSED',
      message: 'Chat template strict.jinja refuses the conversation: No system role.',
      hint: 'Change the order or the roles of the messages as the template wants them.',
    },
  });
  expect(sample(good, { format })).toEqual(before);
});
