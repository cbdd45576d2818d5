/**
 * Python's `str.strip`: JavaScript's `trim` leaves U+0085 and U+001C to U+001F, which Python takes, and
 * takes U+FEFF, which Python leaves. Training data and chat templates are stripped by Python.
 */

const BLANK =
  /[\t\n\v\f\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;

export interface StripOptions {
  /** Where to take from. @default 'both' */
  side?: 'both' | 'left' | 'right';
  /** The characters to take instead of blanks. */
  characters?: string | undefined;
}

/** Python's `strip`, `lstrip` and `rstrip`, with or without the characters to take. */
export function pythonStrip(
  text: string,
  { side = 'both', characters }: StripOptions = {},
): string {
  const points = characters === undefined ? undefined : new Set(Array.from(characters));
  const taken = (point: string): boolean => (points ? points.has(point) : BLANK.test(point));
  // Blanks are single UTF-16 units; only given characters can be longer.
  const units = points ? Array.from(text) : text;
  let start = 0;
  let end = units.length;
  if (side !== 'right') while (start < end && taken(units[start]!)) start++;
  if (side !== 'left') while (end > start && taken(units[end - 1]!)) end--;
  return typeof units === 'string' ? units.slice(start, end) : units.slice(start, end).join('');
}

/** A text as blanks, what `strip()` leaves, and blanks; a blank text is all `before`. */
export function splitBlanks(text: string): { before: string; core: string; after: string } {
  const rest = pythonStrip(text, { side: 'left' });
  const core = pythonStrip(rest, { side: 'right' });
  return {
    before: text.slice(0, text.length - rest.length),
    core,
    after: rest.slice(core.length),
  };
}
