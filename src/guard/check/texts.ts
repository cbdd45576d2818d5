/** Texts that teach nothing: empty ones, and those that say the same over and over. */

/** Blanks, and characters that take no room. */
const NOTHING = /^[\s\u200b-\u200f\u2060\ufeff]*$/;

export function isEmptyText(text: string): boolean {
  return NOTHING.test(text);
}

export interface Repetition {
  /** What comes over and over. */
  readonly unit: string;
  readonly times: number;
}

/** Spans of 1 to 13 tokens that come 32 times or more in a row go before spikes of the loss (OLMo 2, arXiv 2501.00656, section 3). */
const LONGEST_UNIT = 13;
const TIMES = 32;

/** The first span of up to 13 words, or of up to 13 letters without a blank, that comes 32 times or more in a row. */
export function repetitionIn(text: string): Repetition | undefined {
  // Most texts are too short for it.
  if (text.length < TIMES) return undefined;
  const words = text.split(/\s+/).filter((word) => word !== '');
  const inWords = repeated(words);
  if (inWords !== undefined) {
    return {
      unit: words.slice(inWords.from, inWords.from + inWords.period).join(' '),
      times: inWords.times,
    };
  }
  for (const word of words) {
    if (word.length < TIMES) continue;
    const letters = Array.from(word);
    const found = repeated(letters);
    if (found === undefined) continue;
    const unit = letters.slice(found.from, found.from + found.period).join('');
    // Lines of dashes, dots and zeros are drawn everywhere.
    if (/\p{L}/u.test(unit)) return { unit, times: found.times };
  }
  return undefined;
}

/** The first stretch in which something of `period` parts comes often enough in a row. */
function repeated(
  parts: readonly string[],
): { readonly from: number; readonly period: number; readonly times: number } | undefined {
  const longest = Math.min(LONGEST_UNIT, Math.floor(parts.length / TIMES));
  for (let period = 1; period <= longest; period++) {
    let same = 0;
    for (let i = period; i <= parts.length; i++) {
      if (i < parts.length && parts[i] === parts[i - period]) {
        same++;
        continue;
      }
      const times = Math.floor(same / period) + 1;
      if (times >= TIMES) return { from: i - same - period, period, times };
      same = 0;
    }
  }
  return undefined;
}
