/**
 * A sample for people's eyes: its ids as stretches of text, special tokens and images, each learned or not.
 */
import { IGNORED_LABEL, IMAGE_ID } from './message.js';
import type { Tokenizer } from './tokenizer.js';

export interface Segment {
  readonly kind: 'text' | 'special' | 'image';
  /** What the tokens spell; of an image, the tokenizer's word for it. */
  readonly text: string;
  readonly tokens: number;
  readonly supervised: boolean;
}

/**
 * Neighbouring tokens of one kind and one supervision as segments; special tokens and images stand alone,
 * the tokens of an expanded image as one. What is no valid UTF-8 within a segment becomes U+FFFD.
 */
export function segmentsOf(
  tokenizer: Tokenizer,
  { inputIds, labels }: { inputIds: ArrayLike<number>; labels: ArrayLike<number> },
): Segment[] {
  const kindOf = (id: number): Segment['kind'] => {
    if (id === IMAGE_ID || id === tokenizer.imageTokenId) return 'image';
    return tokenizer.isSpecial(id) ? 'special' : 'text';
  };
  const segments: Segment[] = [];
  for (let from = 0, to = 0; from < inputIds.length; from = to) {
    const id = inputIds[from]!;
    const kind = kindOf(id);
    const supervised = labels[from] !== IGNORED_LABEL;
    // An expanded image is one, though two that touch cannot be told apart.
    const joins = (at: number): boolean => {
      if (kind === 'special' || id === IMAGE_ID) return false;
      return kindOf(inputIds[at]!) === kind && (labels[at] !== IGNORED_LABEL) === supervised;
    };
    to = from + 1;
    while (to < inputIds.length && joins(to)) to++;
    const bytes = Array.from({ length: to - from }, (_, i) =>
      tokenizer.bytesOf(inputIds[from + i]!),
    );
    const text = kind === 'image' ? tokenizer.imageToken : Buffer.concat(bytes).toString('utf8');
    segments.push({ kind, text, tokens: to - from, supervised });
  }
  return segments;
}
