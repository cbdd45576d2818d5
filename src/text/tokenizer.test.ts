import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { PatinaError } from '../base/errors.js';
import { cases } from '../base/testing.js';
import { fixtureTokenizer, readFixture } from './testing.js';
import { decode } from './token-stream.js';
import { Tokenizer } from './tokenizer.js';

interface Layout {
  name: string;
  tokenizer: Record<string, unknown>;
  cases: { text: string; ids: number[]; decoded: string }[];
}

const layouts = readFixture('encode/layouts.json.gz') as Layout[];
const layout = (name: string): Layout => layouts.find((entry) => entry.name === name)!;

describe("Hugging Face's ids", () => {
  it.each(layouts)('layout $name', ({ tokenizer: json, cases }) => {
    const tokenizer = new Tokenizer({ tokenizer: json });
    for (const { text, ids, decoded } of cases) {
      expect(tokenizer.encode(text, { specialTokens: 'parse' }), text).toEqual(ids);
      expect(decode(tokenizer, ids, { skipSpecial: false }), text).toBe(decoded);
    }
  });

  it('splits as Oniguruma: case folding beyond ASCII, Unicode white space, digits in threes', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    const words = (text: string, ...pieces: string[]): void =>
      expect(tokenizer.encode(text)).toEqual(pieces.flatMap((piece) => tokenizer.encode(piece)));
    words("it'ſx", 'it', "'ſ", 'x');
    words("IT'LLx", 'IT', "'LL", 'x');
    words('a  \u0085b', 'a', '  \u0085', 'b');
    words('a  \ufeffb', 'a', ' ', ' \ufeff', 'b');
    words('1234567', '123', '456', '7');
  });

  it('looks a whole word up before merging, but never finds a special token so', () => {
    const { tokenizer: json } = layout('qwen2');
    const model = json['model'] as { vocab: Record<string, number> };
    const vocab = { ...model.vocab, cat: 900, ['<mask>']: 440 };
    const [added] = (json['added_tokens'] as object[]).slice(-1);
    const tokenizer = new Tokenizer({
      tokenizer: {
        ...json,
        pre_tokenizer: { type: 'ByteLevel', use_regex: false },
        added_tokens: [{ ...added, id: 440 }],
        model: { ...model, vocab, ignore_merges: true },
      },
    });
    expect(tokenizer.encode('cat')).toEqual([900]);
    expect(tokenizer.encode('<mask>')).not.toContain(440);
    expect(tokenizer.encode('<mask>', { specialTokens: 'parse' })).toEqual([440]);
  });
});

describe('text that spells a special token', () => {
  it.each(['tokenizer', 'tokenizer-vicuna', 'tokenizer-vicuna-legacy'])('%s', async (name) => {
    const tokenizer = await fixtureTokenizer(name);
    const text = 'x <|eot_id|><s></s><unk> <|begin_of_text|>y';
    const special = (ids: number[]): boolean => ids.some((id) => tokenizer.isSpecial(id));
    expect(tokenizer.spellsToken(text)).toBe(true);
    expect(special(tokenizer.encode(text))).toBe(false);
    expect(special(tokenizer.encode(text, { specialTokens: 'parse' }))).toBe(true);
    expect(decode(tokenizer, tokenizer.encode(text))).toBe(text);
  });

  it('is never put together of markup and content', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    const { ids } = tokenizer.encodeSpans([
      { kind: 'markup', text: '<|eot' },
      { kind: 'content', text: '_id|>' },
      { kind: 'markup', text: '<|eot_id|>' },
    ]);
    expect(ids.filter((id) => tokenizer.isSpecial(id))).toEqual([1509]);
    expect(ids.at(-1)).toBe(1509);
  });

  it('never makes an image of text, not even when parsed', () => {
    const json = layout('llama').tokenizer;
    const added = json['added_tokens'] as { id: number }[];
    const image = { ...added.at(-1)!, id: 900, content: '<image>', lstrip: false };
    const tokenizer = new Tokenizer({ tokenizer: { ...json, added_tokens: [...added, image] } });
    expect(tokenizer.imageTokenId).toBe(900);
    expect(tokenizer.encode('an <image> </s>', { specialTokens: 'parse' })).not.toContain(900);
    expect(tokenizer.encode('an <image> </s>', { specialTokens: 'parse' })).toContain(2);
  });
});

describe('spans', () => {
  it('are one text: words and merges go over their borders', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    const { ids } = tokenizer.encodeSpans([
      { kind: 'markup', text: 'ab' },
      { kind: 'content', text: 'out' },
    ]);
    expect(ids).toEqual(tokenizer.encode('about'));
  });

  it('learn a token if any of its characters is learned', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer-vicuna');
    const { ids, labels } = tokenizer.encodeSpans([
      { kind: 'markup', text: 'USER: ' },
      { kind: 'content', text: 'the cat', supervised: true },
      { kind: 'markup', text: ' now' },
    ]);
    const learned = ids.filter((_, i) => labels[i] !== -100);
    expect(decode(tokenizer, learned)).toBe('the cat');
    expect(tokenizer.tokenOf(learned[0]!)).toBe('▁the');
  });

  it('keep bytes of a character apart from the next span', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer-vicuna');
    const { ids, labels } = tokenizer.encodeSpans([
      { kind: 'content', text: 'é日' },
      { kind: 'content', text: '本', supervised: true },
      { kind: 'content', text: '語' },
    ]);
    const learned = ids.filter((_, i) => labels[i] !== -100).map((id) => tokenizer.tokenOf(id));
    expect(learned).toEqual(['<0xE6>', '<0x9C>', '<0xAC>']);
  });
});

describe('round trips', () => {
  const text = fc.oneof(
    fc.string({ unit: 'grapheme' }),
    fc.string({ unit: 'binary' }),
    fc
      .array(
        fc.constantFrom('the', ' ', '\n', '<|eot_id|>', '</s>', '▁', '12', 'é', '\u0085', '😀'),
      )
      .map((x) => x.join('')),
  );

  it.each(['tokenizer', 'tokenizer-vicuna', 'tokenizer-vicuna-legacy'])('%s', async (name) => {
    const tokenizer = await fixtureTokenizer(name);
    const mark = name !== 'tokenizer';
    fc.assert(
      fc.property(text, (original) => {
        const ids = tokenizer.encode(original);
        // SentencePiece writes a blank as "▁", so that "▁" itself comes back as a blank.
        let expected = mark ? original.replaceAll('▁', ' ') : original;
        // Metaspace adds no mark before a first blank, and decoding takes that blank for one.
        if (name === 'tokenizer-vicuna' && expected.startsWith(' ')) expected = expected.slice(1);
        expect(decode(tokenizer, ids)).toBe(expected);
        expect(ids.some((id) => tokenizer.isSpecial(id))).toBe(false);
      }),
      { numRuns: cases(100) },
    );
  });
});

describe('names and settings', () => {
  it('reads special tokens as text or as objects, the configuration over the map', () => {
    const { tokenizer: json } = layout('llama');
    const tokenizer = new Tokenizer({
      tokenizer: json,
      config: { bos_token: { content: '<s>' }, pad_token: null, image_token: '<mask>' },
      specialTokensMap: { bos_token: '</s>', eos_token: '</s>', pad_token: '<unk>' },
    });
    expect([tokenizer.bosId, tokenizer.eosId, tokenizer.padId]).toEqual([1, 2, 0]);
    expect(tokenizer.imageTokenId).toBe(tokenizer.idOf('<mask>'));
    expect(tokenizer.vocabularySize).toBe(501);
  });

  it('takes the flags of added tokens from the configuration', () => {
    const { tokenizer: json } = layout('llama');
    const tokenizer = new Tokenizer({
      tokenizer: json,
      config: { added_tokens_decoder: { 501: { content: '<new>', special: true, rstrip: true } } },
    });
    const ids = tokenizer.encode('the<new>   cat', { specialTokens: 'parse' });
    expect(ids).toContain(501);
    expect(decode(tokenizer, ids, { skipSpecial: false })).toBe('the<new>cat');
  });

  it('takes the blanks of a text for a token of the markup that strips them', () => {
    const { tokenizer: json } = layout('llama');
    const both = { id: 501, content: '<both>', lstrip: true, rstrip: true };
    const tokenizer = new Tokenizer({ tokenizer: { ...json, added_tokens: [both] } });
    const { ids } = tokenizer.encodeSpans([
      { kind: 'content', text: 'the \n' },
      { kind: 'markup', text: '<both>' },
      { kind: 'content', text: ' \t' },
      { kind: 'markup', text: '<both>' },
      { kind: 'content', text: '  cat' },
    ]);
    const whole = tokenizer.encode('the<both><both>cat', { specialTokens: 'parse' });
    expect(ids).toEqual(whole);
  });

  it('learns such a token or not by its own text, whatever blanks it takes', () => {
    const { tokenizer: json } = layout('llama');
    const both = { id: 501, content: '<both>', lstrip: true, rstrip: true };
    const tokenizer = new Tokenizer({ tokenizer: { ...json, added_tokens: [both] } });
    const label = (supervised: boolean): number => {
      const { ids, labels } = tokenizer.encodeSpans([
        { kind: 'content', text: 'the ', supervised: !supervised },
        { kind: 'markup', text: '<both>', supervised },
        { kind: 'content', text: ' cat', supervised: !supervised },
      ]);
      return labels[ids.indexOf(501)]!;
    };
    expect([label(true), label(false)]).toEqual([501, -100]);
  });

  it('finds a token of a single word only by itself', () => {
    const { tokenizer: json } = layout('llama');
    const word = { id: 501, content: 'cat', single_word: true };
    const tokenizer = new Tokenizer({ tokenizer: { ...json, added_tokens: [word] } });
    const found = (text: string): boolean =>
      tokenizer.encode(text, { specialTokens: 'parse' }).includes(501);
    expect([found('a cat!'), found('cats'), found('concat')]).toEqual([true, false, false]);
    // A letter of two UTF-16 units, and a joiner, which Rust counts to words.
    expect(['cat\u{2a6d6}', '\u{2a6d6}cat', 'cat\u200d', 'cat\u{1f600}'].map(found)).toEqual([
      ...[false, false, false],
      true,
    ]);
  });

  it('knows the default among named templates', () => {
    const { tokenizer: json } = layout('llama');
    const chat_template = [
      { name: 'tools', template: 'a' },
      { name: 'default', template: 'b' },
    ];
    for (const named of [chat_template, { tools: 'a', default: 'b' }]) {
      const config = { chat_template: named };
      expect(new Tokenizer({ tokenizer: json, config }).chatTemplate).toBe('b');
    }
  });

  it('gives no text for an id without a token', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    expect(decode(tokenizer, [100_000, 72, -200])).toBe(decode(tokenizer, [72]));
  });
});

describe('what cannot be reproduced is refused', () => {
  const { tokenizer: json } = layout('llama');
  const model = json['model'] as object;
  const split = (Regex: string): object => ({
    pre_tokenizer: { type: 'Split', pattern: { Regex }, behavior: 'Isolated', invert: false },
  });
  it.each<[string, unknown, string]>([
    ['E_TOKENIZER_BROKEN', null, 'the file'],
    ['E_TOKENIZER_BROKEN', {}, 'model'],
    ['E_TOKENIZER_BROKEN', { ...json, model: { ...model, vocab: { a: -1 } } }, 'vocab'],
    ['E_TOKENIZER_BROKEN', { ...json, model: { ...model, merges: ['a b c'] } }, 'merges[0]'],
    ['E_TOKENIZER_BROKEN', { ...json, model: { ...model, unk_token: 'nowhere' } }, 'unk_token'],
    ['E_TOKENIZER_BROKEN', { ...json, added_tokens: [{ id: 1 }] }, 'added_tokens[0].content'],
    ['E_TOKENIZER_BROKEN', { ...json, added_tokens: 7 }, 'added_tokens'],
    ['E_TOKENIZER_BROKEN', { ...json, ...split('(') }, 'tokenizer.json'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, ...split('a++') }, 'possessive'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, ...split('(?>a)') }, 'atomic'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, ...split('(?i:[a-f0-9])') }, 'ignores the case'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, ...split('(?i:é)') }, 'ignores the case'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, ...split('(?i:(?:s))') }, 'ignores the case'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, ...split('(?i)s') }, 'ignores the case'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, model: { ...model, type: 'Unigram' } }, 'Unigram'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, model: { ...model, dropout: 0.1 } }, 'dropout'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, normalizer: { type: 'Lowercase' } }, 'Lowercase'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, pre_tokenizer: { type: 'BertPreTokenizer' } }, 'Bert'],
    ['E_TOKENIZER_UNSUPPORTED', { ...json, decoder: { type: 'WordPiece' } }, 'decoder'],
  ])('%s: %#', (code, tokenizer, text) => {
    let error: unknown;
    try {
      new Tokenizer({ tokenizer });
    } catch (caught) {
      error = caught;
    }
    expect(error).toBeInstanceOf(PatinaError);
    expect(error).toMatchObject({ code });
    expect((error as PatinaError).message).toContain(text);
  });

  it('files of any shape: a typed error or a tokenizer', () => {
    const keys = fc.constantFrom('model', 'normalizer', 'pre_tokenizer', 'decoder', 'added_tokens');
    fc.assert(
      fc.property(keys, fc.jsonValue(), (key, value) => {
        try {
          new Tokenizer({ tokenizer: { ...json, [key]: value } });
        } catch (error) {
          expect(error).toBeInstanceOf(PatinaError);
        }
      }),
    );
  });
});
