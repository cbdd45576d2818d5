/**
 * Text from ids one by one: whole characters only, and nothing of a stop string. What could still become
 * part of either is held back until the next token, or the end, decides.
 */
import type { Tokenizer } from './tokenizer.js';

export interface TokenStreamOptions {
  /** Leave special tokens out of the text. @default true */
  skipSpecial?: boolean;
  /** Strings that end the text; they and what follows are left out. @default [] */
  stop?: readonly string[];
}

export class TokenStream {
  readonly #tokenizer: Tokenizer;
  readonly #skipSpecial: boolean;
  readonly #stop: readonly string[];
  readonly #utf8 = new TextDecoder('utf-8', { ignoreBOM: true });
  #atStart = true;
  /** Whole characters that may be the beginning of a stop string. */
  #held = '';
  #stopped = false;

  constructor(tokenizer: Tokenizer, { skipSpecial = true, stop = [] }: TokenStreamOptions = {}) {
    this.#tokenizer = tokenizer;
    this.#skipSpecial = skipSpecial;
    this.#stop = stop.filter((text) => text !== '');
  }

  /** Whether a stop string has come; nothing is given from then on. */
  get stopped(): boolean {
    return this.#stopped;
  }

  /** Takes one id; gives the text that is certain by now, often none. */
  push(id: number): string {
    if (this.#stopped || (this.#skipSpecial && this.#tokenizer.isSpecial(id))) return '';
    return this.#give(this.#utf8.decode(this.#tokenizer.bytesOf(id), { stream: true }));
  }

  /** Ends the stream; gives what was held back, an unfinished character as U+FFFD. */
  end(): string {
    if (this.#stopped) return '';
    const text = this.#give(this.#utf8.decode()) + this.#held;
    this.#held = '';
    return text;
  }

  #give(fresh: string): string {
    if (fresh === '') return '';
    let text = fresh;
    if (this.#atStart) {
      this.#atStart = false;
      if (this.#tokenizer.stripsFirstBlank && text.startsWith(' ')) text = text.slice(1);
    }
    text = this.#held + text;
    this.#held = '';
    const places = this.#stop.map((stop) => text.indexOf(stop)).filter((place) => place >= 0);
    if (places.length > 0) {
      this.#stopped = true;
      return text.slice(0, Math.min(...places));
    }
    const kept = Math.max(0, ...this.#stop.map((stop) => overlap(text, stop)));
    this.#held = text.slice(text.length - kept);
    return text.slice(0, text.length - kept);
  }
}

/** The text of ids as a stream of them gives it; an id without a token gives none. */
export function decode(
  tokenizer: Tokenizer,
  ids: Iterable<number>,
  options: TokenStreamOptions = {},
): string {
  const stream = new TokenStream(tokenizer, options);
  let text = '';
  for (const id of ids) text += stream.push(id);
  return text + stream.end();
}

/** Length of the longest proper beginning of `stop` at the end of `text`. */
function overlap(text: string, stop: string): number {
  for (let length = Math.min(text.length, stop.length - 1); length > 0; length--) {
    if (text.endsWith(stop.slice(0, length))) return length;
  }
  return 0;
}
