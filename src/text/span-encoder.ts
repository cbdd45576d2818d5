/**
 * Ids and labels of spans of text. Special tokens are found in a template's own words alone, so that a text which
 * spells one stays text; words and merges know no borders between spans.
 */
import type { AddedTokens } from './added-tokens.js';
import { fallbackByte } from './byte-tokens.js';
import { IGNORED_LABEL, IMAGE_ID } from '../models/sample.js';
import type { Pipeline } from './pipeline.js';
import { Stretch, type Turn } from './stretch.js';

/** Whether text that spells a special token stays text or becomes the token. */
export type SpecialTokens = 'text' | 'parse';

export interface EncodeTextOptions {
  /** @default 'text' */
  specialTokens?: SpecialTokens;
}

/** A stretch of a prompt: a template's own words (`markup`), a message's text (`content`), or an image. */
export type Span =
  | {
      readonly kind: 'markup' | 'content';
      readonly text: string;
      /** Whether its tokens are learned. @default false */
      readonly supervised?: boolean;
    }
  | { readonly kind: 'image'; readonly image: number };

/** Ids with their labels; `images` lists the images in the order of the -200 that stand for them. */
export interface Encoded {
  readonly ids: number[];
  readonly labels: number[];
  readonly images: number[];
}

/** Words whose ids are kept; all are forgotten when there are more, since text repeats mostly nearby. */
const CACHED_WORDS = 65_536;
const LONGEST_CACHED_WORD = 64;

export class SpanEncoder {
  readonly #pipeline: Pipeline;
  readonly #added: AddedTokens;
  readonly #tokens: readonly (string | undefined)[];
  readonly #imageToken: string;
  readonly #words = new Map<string, readonly number[]>();

  constructor({
    pipeline,
    added,
    tokens,
    imageToken,
  }: {
    pipeline: Pipeline;
    added: AddedTokens;
    /** Tokens by their ids. */
    tokens: readonly (string | undefined)[];
    imageToken: string;
  }) {
    this.#pipeline = pipeline;
    this.#added = added;
    this.#tokens = tokens;
    this.#imageToken = imageToken;
  }

  /**
   * Ids and labels of spans as of one text: words and merges go over the borders of spans, added tokens are
   * found in markup alone (with `parse` also in content, but for the image token). A token is learned if any of
   * its characters is.
   */
  encode(spans: readonly Span[], { specialTokens = 'text' }: EncodeTextOptions = {}): Encoded {
    const out: Encoded = { ids: [], labels: [], images: [] };
    let stretch = new Stretch();
    let atStart = true;
    for (const span of spans) {
      if (span.kind === 'image') {
        this.#encodeStretch(stretch, atStart, out);
        out.ids.push(IMAGE_ID);
        out.labels.push(IGNORED_LABEL);
        out.images.push(span.image);
        stretch = new Stretch();
        atStart = false;
        continue;
      }
      const supervised = span.supervised ?? false;
      if (span.kind === 'content' && specialTokens === 'parse') {
        // An image token out of a message's text would make the model look for an image that is not there.
        span.text.split(this.#imageToken).forEach((text, i) => {
          if (i > 0) stretch.add(this.#imageToken, false, supervised);
          stretch.add(text, true, supervised);
        });
      } else {
        stretch.add(span.text, span.kind === 'markup', supervised);
      }
    }
    this.#encodeStretch(stretch, atStart, out);
    return out;
  }

  #encodeStretch(stretch: Stretch, atStart: boolean, out: Encoded): void {
    const { text } = stretch;
    let done = 0;
    for (const [from, to] of stretch.markup) {
      if (done >= to) continue;
      for (const { start, end, at, id } of this.#added.find(text, Math.max(from, done), to, done)) {
        this.#encodeSection(stretch, done, start, atStart && done === 0, out);
        out.ids.push(id);
        out.labels.push(stretch.supervisedAt(at) ? id : IGNORED_LABEL);
        done = end;
      }
    }
    this.#encodeSection(stretch, done, text.length, atStart && done === 0, out);
  }

  /** Encodes `text[from, to)`, in which no added token is looked for. */
  #encodeSection(stretch: Stretch, from: number, to: number, atStart: boolean, out: Encoded): void {
    if (from >= to) return;
    const text = stretch.text.slice(from, to);
    const prepared = this.#pipeline.prepare(text, atStart);
    // Where supervision changes in the prepared text: what stands before, prepared alone, tells how far it goes.
    const course: Turn[] = [{ at: 0, supervised: stretch.supervisedAt(from) }];
    for (const turn of stretch.turnsWithin(from, to)) {
      const before = this.#pipeline.prepare(text.slice(0, turn - from), atStart);
      course.push({
        at: commonPrefix(before, prepared),
        supervised: stretch.supervisedAt(turn),
      });
    }
    let position = 0;
    let next = 1;
    for (const word of this.#pipeline.split(prepared)) {
      const end = position + word.length;
      const ids = this.#wordIds(word);
      while (next < course.length && course[next]!.at <= position) next++;
      if (next < course.length && course[next]!.at < end) {
        this.#labelByBytes(ids, prepared, position, course, out);
      } else {
        const { supervised } = course[next - 1]!;
        for (const id of ids) {
          out.ids.push(id);
          out.labels.push(supervised ? id : IGNORED_LABEL);
        }
      }
      position = end;
    }
  }

  /** Labels a word within which supervision changes; in bytes, since a token may end within a character. */
  #labelByBytes(
    ids: readonly number[],
    prepared: string,
    position: number,
    course: readonly Turn[],
    out: Encoded,
  ): void {
    const bytesBefore = (at: number): number => Buffer.byteLength(prepared.slice(0, at));
    const ranges = course.map(({ at, supervised }, i) => {
      const end = course[i + 1]?.at ?? prepared.length;
      return { supervised, from: bytesBefore(at), to: bytesBefore(end) };
    });
    let from = bytesBefore(position);
    for (const id of ids) {
      const to = from + this.#byteLength(id);
      const start = from;
      const learned = ranges.some(
        (range) => range.supervised && range.from < to && range.to > start,
      );
      out.ids.push(id);
      out.labels.push(learned ? id : IGNORED_LABEL);
      from = to;
    }
  }

  #wordIds(word: string): readonly number[] {
    const known = this.#words.get(word);
    if (known) return known;
    const ids = this.#pipeline.encodeWord(word);
    if (word.length <= LONGEST_CACHED_WORD) {
      if (this.#words.size >= CACHED_WORDS) this.#words.clear();
      this.#words.set(word, ids);
    }
    return ids;
  }

  /** Bytes of the prepared text that a token of the model covers. */
  #byteLength(id: number): number {
    const token = this.#tokens[id]!;
    if (this.#pipeline.byteLevel) return token.length;
    return fallbackByte(token) === undefined ? Buffer.byteLength(token) : 1;
  }
}

function commonPrefix(a: string, b: string): number {
  let length = 0;
  while (length < a.length && a[length] === b[length]) length++;
  return length;
}
