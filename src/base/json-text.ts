/** JSON as Patina writes it: a line of a stream or log, or a file that people read too. */

/** One line, with its end. Numbers that JSON lacks are the strings "NaN", "Infinity" and "-Infinity", so that they stay visible. */
export function jsonLine(value: object): string {
  const text = JSON.stringify(value);
  // Such a number would have become null; without any there is nothing to look for in long lists.
  return `${text.includes('null') ? JSON.stringify(value, finite) : text}\n`;
}

/** Many lines, two blanks for each level. */
export function jsonText(value: object): string {
  return `${JSON.stringify(value, null, 2)}\n`;
}

/** The value of a text, which may begin with a byte order mark, as programs on Windows write it. @throws SyntaxError */
export function parseJson(text: string): unknown {
  return JSON.parse(text.startsWith('\ufeff') ? text.slice(1) : text);
}

function finite(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? String(value) : value;
}
