/** Names that others gave (files, ids), as they stand in messages: on one line, and not longer than a line or two. */

/** Control characters, ends of lines, marks that turn the direction of writing, halves of surrogate pairs. */
const UNPRINTABLE = /[\p{Cc}\p{Zl}\p{Zp}\p{Surrogate}\u202a-\u202e\u2066-\u2069]/gu;

/** The text with what does not print as `\u{...}`, and its middle left out where it has more than `most` characters. */
export function shortText(text: string, most = 200): string {
  const half = Math.floor((most - 3) / 2);
  // Cut first: a picture that stands where its name should has millions of characters.
  const cut = text.length > most ? `${text.slice(0, half)}...${text.slice(-half)}` : text;
  return cut.replace(UNPRINTABLE, (char) => `\\u{${char.codePointAt(0)!.toString(16)}}`);
}
