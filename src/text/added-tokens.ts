/**
 * Added tokens (`<|eot_id|>`, `</s>`, `<image>`): they are found in text before anything else, leftmost and
 * longest first, as in Hugging Face's AddedVocabulary.
 *
 * One difference: a token with `normalized: true` is looked for as it is written, where Rust looks for its
 * normalised spelling in normalised text (with a Prepend normalizer that finds it at a text's start alone).
 */
import { DataError } from '../base/errors.js';
import { isObject, shown, type JsonObject } from './json.js';

export interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
  readonly normalized: boolean;
  /** The token takes the blanks before or after it. */
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  /** The token is not found inside a word. */
  readonly singleWord: boolean;
}

export interface AddedMatch {
  readonly start: number;
  readonly end: number;
  /** Where its own text begins, behind the blanks that it takes. */
  readonly at: number;
  readonly id: number;
}

/**
 * The added tokens of `tokenizer.json`, with the flags of `tokenizer_config.json`, which win (transformers
 * adds the tokens of `added_tokens_decoder` anew over those of the file).
 */
export function readAddedTokens(json: JsonObject, config: JsonObject): AddedToken[] {
  const tokens = new Map<string, AddedToken>();
  const list = json['added_tokens'] ?? [];
  if (!Array.isArray(list)) throw broken('tokenizer.json: added_tokens', list);
  (list as unknown[]).forEach((entry, i) => {
    const token = readToken(entry, undefined, `tokenizer.json: added_tokens[${i}]`);
    tokens.set(token.content, token);
  });
  const decoder = config['added_tokens_decoder'];
  if (isObject(decoder)) {
    for (const [id, entry] of Object.entries(decoder)) {
      const field = `tokenizer_config.json: added_tokens_decoder[${id}]`;
      const token = readToken(entry, Number(id), field);
      tokens.set(token.content, { ...token, id: tokens.get(token.content)?.id ?? token.id });
    }
  }
  return [...tokens.values()];
}

function readToken(entry: unknown, givenId: number | undefined, field: string): AddedToken {
  if (!isObject(entry)) throw broken(field, entry);
  const id = givenId ?? entry['id'];
  const { content } = entry;
  if (typeof content !== 'string' || content === '') throw broken(`${field}.content`, content);
  if (typeof id !== 'number' || !Number.isSafeInteger(id) || id < 0 || id > 0x7fffffff) {
    throw broken(`${field}.id`, id);
  }
  const special = entry['special'] === true;
  return {
    id,
    content,
    special,
    normalized: entry['normalized'] === undefined ? !special : entry['normalized'] === true,
    lstrip: entry['lstrip'] === true,
    rstrip: entry['rstrip'] === true,
    singleWord: entry['single_word'] === true,
  };
}

function broken(field: string, value: unknown): DataError {
  return new DataError(`${field} is ${shown(value)}, which is not an added token.`, {
    code: 'E_TOKENIZER_BROKEN',
    hint: 'Fetch the tokenizer again from where the model came from.',
  });
}

const escape = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');
// What Rust's `\w` holds.
const WORD_BEFORE = /[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]$/u;
const WORD_AFTER = /^[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]/u;
const BLANK = /\p{White_Space}/u;

export class AddedTokens {
  readonly #byContent: ReadonlyMap<string, AddedToken>;
  /** One pattern for tokens that are found in raw text, then one for the normalised ones. */
  readonly #patterns: readonly RegExp[];

  constructor(readonly tokens: readonly AddedToken[]) {
    this.#byContent = new Map(tokens.map((token) => [token.content, token]));
    this.#patterns = [false, true].flatMap((normalized) => {
      const contents = tokens.filter((t) => t.normalized === normalized).map((t) => t.content);
      if (contents.length === 0) return [];
      contents.sort((a, b) => b.length - a.length);
      return [new RegExp(contents.map(escape).join('|'), 'g')];
    });
  }

  /** Whether the text spells an added token. */
  spelled(text: string): boolean {
    return this.#patterns.some((pattern) => text.search(pattern) >= 0);
  }

  /**
   * Added tokens within `text[from, to)`, in order; blanks that they take may lie outside.
   *
   * @param floor Where the blanks before the first may begin.
   */
  find(text: string, from: number, to: number, floor = from): AddedMatch[] {
    let found: AddedMatch[] = [];
    for (const pattern of this.#patterns) {
      const all: AddedMatch[] = [];
      let done = from;
      let end = floor;
      for (const match of found) {
        all.push(...this.#search(pattern, text, done, match.start, end), match);
        done = end = match.end;
      }
      found = [...all, ...this.#search(pattern, text, done, to, end)];
    }
    return found;
  }

  #search(pattern: RegExp, text: string, from: number, to: number, floor: number): AddedMatch[] {
    const found: AddedMatch[] = [];
    let done = floor;
    for (const match of text.slice(from, to).matchAll(pattern)) {
      const token = this.#byContent.get(match[0])!;
      let start = from + match.index;
      let end = start + match[0].length;
      if (start < done) continue;
      if (token.singleWord && isInWord(text, start, end)) continue;
      if (token.lstrip) while (start > done && BLANK.test(text[start - 1]!)) start--;
      if (token.rstrip) while (end < text.length && BLANK.test(text[end]!)) end++;
      found.push({ start, end, at: from + match.index, id: token.id });
      done = end;
    }
    return found;
  }
}

/** Whether a character of a word, of one or two UTF-16 units, stands right before or after `text[start, end)`. */
const isInWord = (text: string, start: number, end: number): boolean =>
  WORD_BEFORE.test(text.slice(Math.max(start - 2, 0), start)) ||
  WORD_AFTER.test(text.slice(end, end + 2));
