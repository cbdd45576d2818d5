import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import { fixtureTokenizer, readFixture } from './testing.js';
import { decode, TokenStream, type TokenStreamOptions } from './token-stream.js';
import type { Tokenizer } from './tokenizer.js';

function deltas(tokenizer: Tokenizer, ids: number[], options?: TokenStreamOptions): string[] {
  const stream = new TokenStream(tokenizer, options);
  return [...ids.map((id) => stream.push(id)), stream.end()];
}

describe('a stream of tokens', () => {
  it("gives transformers' text for a random model's tokens", async () => {
    const tokenizer = await fixtureTokenizer('../llava/llama3/hf');
    const { generation } = readFixture('llava/llama3/facts.json') as {
      generation: { new_tokens: number[]; text: string }[];
    };
    for (const { new_tokens, text } of generation) {
      expect(decode(tokenizer, new_tokens, { skipSpecial: false })).toBe(text);
    }
  });

  it.each(['tokenizer', 'tokenizer-vicuna'])('gives whole characters only: %s', async (name) => {
    const tokenizer = await fixtureTokenizer(name);
    const text = '日本 語 👩‍👩‍👧 é';
    const ids = tokenizer.encode(text);
    expect(ids.length).toBeGreaterThan(12);
    const pieces = deltas(tokenizer, ids);
    expect(pieces.join('')).toBe(text);
    expect(pieces.some((piece) => /[\ufffd]|\p{Surrogate}/u.test(piece))).toBe(false);
  });

  it('gives an unfinished character as U+FFFD at the end', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    const ids = tokenizer.encode('語').slice(0, 2);
    expect(deltas(tokenizer, ids)).toEqual(['', '', '\ufffd']);
  });

  it('leaves special tokens out unless asked', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    const ids = [1500, ...tokenizer.encode('hi'), 1509];
    expect(decode(tokenizer, ids)).toBe('hi');
    expect(decode(tokenizer, ids, { skipSpecial: false })).toBe('<|begin_of_text|>hi<|eot_id|>');
  });

  it('ends before a stop string, of which it gives nothing', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    const ids = tokenizer.encode('one STOP two');
    const stream = new TokenStream(tokenizer, { stop: ['STOP', ''] });
    const seen = ids.map((id) => ({ text: stream.push(id), stopped: stream.stopped }));
    expect(seen.map(({ text }) => text).join('') + stream.end()).toBe('one ');
    expect(stream.stopped).toBe(true);
    expect(seen.findIndex(({ stopped }) => stopped)).toBeLessThan(ids.length - 1);
  });

  it('gives back what only began like a stop string', async () => {
    const tokenizer = await fixtureTokenizer('tokenizer');
    for (const text of ['one STO', 'STOSTOSTO!', 'x ST']) {
      expect(deltas(tokenizer, tokenizer.encode(text), { stop: ['STOP'] }).join('')).toBe(text);
    }
  });

  it('of any ids: no half character, the same text as all at once', async () => {
    const tokenizers = await Promise.all(
      ['tokenizer', 'tokenizer-vicuna'].map((name) => fixtureTokenizer(name)),
    );
    fc.assert(
      fc.property(
        fc.constantFrom(...tokenizers),
        fc.array(fc.integer({ min: 0, max: 1520 })),
        fc.array(fc.string({ maxLength: 3 }), { maxLength: 2 }),
        (tokenizer, ids, stop) => {
          const pieces = deltas(tokenizer, ids, { stop });
          expect(pieces.join('')).toBe(decode(tokenizer, ids, { stop }));
          expect(pieces.some((piece) => /\p{Surrogate}/u.test(piece))).toBe(false);
          for (const text of stop.filter((x) => x !== ''))
            expect(pieces.join('')).not.toContain(text);
        },
      ),
    );
  });
});
