/** Python's methods of text, by which the harnesses parse: JavaScript's differ outside of ASCII. */
import { pythonStrip } from '../text/python-strip.js';

const BLANKS =
  /[\t\n\v\f\r\u001c-\u0020\u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]+/;

/** `text.strip()` */
export function strip(text: string): string {
  return pythonStrip(text);
}

/** `text.rstrip(mark)`; a pattern for it takes the square of a long answer's length. */
export function stripEnd(text: string, mark: string): string {
  let end = text.length;
  while (end > 0 && text[end - 1] === mark) end--;
  return text.slice(0, end);
}

/** `text.split()` */
export function words(text: string): string[] {
  return pythonStrip(text)
    .split(BLANKS)
    .filter((word) => word !== '');
}

/** `len(text)`: code points. */
export function length(text: string): number {
  return Array.from(text).length;
}

/** `int(text)` of decimal digits, which may be of any script. */
export function digitsValue(text: string): number {
  let value = 0;
  // Full-width and mathematical digits are variants of the Latin ones.
  for (const digit of text.normalize('NFKC')) value = value * 10 + digitValue(digit);
  return value;
}

/** Of every other script the zero lies at a code point that ends, in hexadecimal, in 0 or in 6. */
function digitValue(digit: string): number {
  const point = digit.codePointAt(0)!;
  const zero = point - (point % 16);
  return /\p{Nd}/u.test(String.fromCodePoint(zero)) ? point - zero : point - zero - 6;
}
