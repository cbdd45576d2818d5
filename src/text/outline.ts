/**
 * Marks in the place of contents: what a chat template is given instead of a conversation's texts, and how its
 * rendering is cut at them again.
 *
 * The text between a content's blanks is marked by its number between noncharacters. The blanks are marked by
 * blanks, in an order that no template writes, so that a template which strips takes the marks too.
 */
import { joinTexts, type Part } from './message.js';
import { splitBlanks } from './python-strip.js';
import type { Supervised } from './supervision.js';

/** A text that the template is given: its blanks, and what is between them. */
export interface Slot {
  readonly message: number;
  readonly before: string;
  readonly core: readonly Part[];
  readonly after: string;
}

/** A rendering cut at its marks. */
export type Piece =
  | { readonly kind: 'markup'; readonly text: string; readonly supervised: boolean }
  | {
      readonly kind: 'before' | 'core' | 'after';
      readonly slot: number;
      readonly supervised: boolean;
    };

const MARKS = /\ufdd0(\d+)\ufdd1|\u2000([\u2001-\u2008]+)([\u2009\u200a])/gu;
const CORE_MARKS = /\ufdd0(\d+)\ufdd1/gu;
const BEFORE_END = '\u2009';
const AFTER_END = '\u200a';

/** Stands for the text between the blanks of a slot, or for an image within a text. */
export const coreMark = (number: number): string => `\ufdd0${number}\ufdd1`;

/** Whether a text could pass for a mark. */
export const looksMarked = (text: string): boolean => /[\ufdd0\ufdd1]/.test(text);

function blankMark(slot: number, end: string): string {
  const digits = Array.from(slot.toString(8), (d) => String.fromCharCode(0x2001 + Number(d)));
  return `\u2000${digits.join('')}${end}`;
}

function readBlankMark(blanks: string): number {
  const digits = Array.from(blanks, (blank) => blank.charCodeAt(0) - 0x2001);
  return Number.parseInt(digits.join(''), 8);
}

/** Takes a text apart; an image at either end leaves no blanks there. */
export function slotOf(parts: readonly Part[], message: number): Slot {
  const core = joinTexts(parts);
  let [before, after] = ['', ''];
  const first = core.at(0);
  if (first?.type === 'text') {
    before = splitBlanks(first.text).before;
    core[0] = { type: 'text', text: first.text.slice(before.length) };
  }
  const last = core.at(-1);
  if (last?.type === 'text') {
    after = splitBlanks(last.text).after;
    core[core.length - 1] = {
      type: 'text',
      text: last.text.slice(0, last.text.length - after.length),
    };
  }
  return { message, before, core: joinTexts(core), after };
}

/** What the template is given for a slot. */
export function markSlot({ before, core, after }: Slot, slot: number): string {
  return (
    (before && blankMark(slot, BEFORE_END)) +
    (core.length > 0 ? coreMark(slot) : '') +
    (after && blankMark(slot, AFTER_END))
  );
}

/** Which marks a slot has: all that its rendering depends on. */
export function slotShape({ before, core, after }: Slot): number {
  return (before ? 4 : 0) + (core.length > 0 ? 2 : 0) + (after ? 1 : 0);
}

/** The text of a slot, images marked. */
export function slotText({ before, core, after }: Slot): string {
  return before + coreText(core) + after;
}

/** What a piece stands for, images marked. */
export function pieceText(piece: Piece, slots: readonly Slot[]): string {
  if (piece.kind === 'markup') return piece.text;
  const slot = slots[piece.slot]!;
  return piece.kind === 'core' ? coreText(slot.core) : slot[piece.kind];
}

const coreText = (parts: readonly Part[]): string =>
  parts.map((part) => (part.type === 'text' ? part.text : coreMark(part.image))).join('');

/** Cuts a rendering of marked slots. */
export function cutAtSlots(rendering: Supervised): Piece[] {
  return cut(rendering, MARKS, (match, supervised): Piece => {
    const [, core, blanks, end] = match;
    if (core !== undefined) return { kind: 'core', slot: Number(core), supervised };
    const kind = end === BEFORE_END ? 'before' : 'after';
    return { kind, slot: readBlankMark(blanks!), supervised };
  });
}

/** Cuts a rendering of real texts in which only images are marked. */
export function cutAtImages(
  rendering: Supervised,
): (Extract<Piece, { kind: 'markup' }> | { kind: 'image'; image: number })[] {
  return cut(rendering, CORE_MARKS, ([, image]) => ({ kind: 'image', image: Number(image) }));
}

/** Cuts a text at what a pattern finds, and what is between at the ends of supervised ranges. */
function cut<Found>(
  { text, ranges }: Supervised,
  pattern: RegExp,
  read: (match: RegExpExecArray, supervised: boolean) => Found,
): (Found | Extract<Piece, { kind: 'markup' }>)[] {
  const pieces: (Found | Extract<Piece, { kind: 'markup' }>)[] = [];
  const supervised = (at: number): boolean => ranges.some(([from, to]) => at >= from && at < to);
  const ends = ranges.flat();
  const addWords = (from: number, to: number): void => {
    const edges = [from, ...ends.filter((end) => end > from && end < to), to];
    for (let i = 0; i + 1 < edges.length; i++) {
      const words = text.slice(edges[i], edges[i + 1]);
      if (words !== '')
        pieces.push({ kind: 'markup', text: words, supervised: supervised(edges[i]!) });
    }
  };
  let done = 0;
  for (const match of text.matchAll(pattern)) {
    addWords(done, match.index);
    pieces.push(read(match, supervised(match.index)));
    done = match.index + match[0].length;
  }
  addWords(done, text.length);
  return pieces;
}
