/** What the tests of this room and of `data` share: the stored tokenizers and conversations. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';

import { loadTokenizer } from './load-tokenizer.js';
import { textMessage, type Message } from './message.js';
import type { Tokenizer } from './tokenizer.js';

/** A path below `test/fixtures`. */
export function fixture(path: string): string {
  return fileURLToPath(new URL(`../../test/fixtures/${path}`, import.meta.url));
}

/** A stored JSON file; the caller says what it holds. */
export function readFixture(path: string): unknown {
  const bytes = readFileSync(fixture(path));
  return JSON.parse((path.endsWith('.gz') ? gunzipSync(bytes) : bytes).toString('utf8'));
}

const loaded = new Map<string, Promise<Tokenizer>>();

/** `tokenizer` (Llama 3's layout), `tokenizer-vicuna` or `tokenizer-vicuna-legacy`. */
export function fixtureTokenizer(name: string): Promise<Tokenizer> {
  const tokenizer = loaded.get(name) ?? loadTokenizer(fixture(`encode/${name}`));
  loaded.set(name, tokenizer);
  return tokenizer;
}

/** Messages of a user and an assistant by turns. */
export function dialogue(...texts: string[]): Message[] {
  return texts.map((text, i) => textMessage(i % 2 === 0 ? 'user' : 'assistant', text));
}

/** Tokens as the vocabulary spells them, those that are learned in brackets, an image as `<-200>`. */
export function tokensOf(
  tokenizer: Tokenizer,
  { ids, labels }: { ids: readonly number[]; labels: readonly number[] },
): string {
  return ids
    .map((id, i) => {
      const token = tokenizer.tokenOf(id) ?? `<${id}>`;
      return labels[i] === -100 ? token : `[${token}]`;
    })
    .join(' ');
}
