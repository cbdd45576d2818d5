/**
 * The id of a record to the letter. JavaScript's numbers hold integers to 2^53 and forget how a number was written, so that an
 * id is only what it was if its text is kept.
 */
import { isObject } from '../../text/json.js';

/** A record, and the JSON text of its id where that is not what its value would be written as. */
export interface ExactId {
  readonly json: unknown;
  readonly idText?: string | undefined;
}

/**
 * The record with an id that is a text, or a number that is written as it stands in the file; else the id is its own JSON text.
 *
 * @param json what `text` parses to
 */
export function withExactId(json: unknown, text: string): ExactId {
  if (!isObject(json)) return { json };
  const id = json['id'] ?? null;
  if (id === null || typeof id === 'string') return { json };
  const idText = topLevelText(text, 'id');
  if (idText === undefined || (typeof id === 'number' && String(id) === idText)) return { json };
  return { json: { ...json, id: idText }, idText };
}

/** The text of a value of an object; of the last one, as `JSON.parse` has it. `text` is valid JSON. */
function topLevelText(text: string, key: string): string | undefined {
  let found: string | undefined;
  let depth = 0;
  let start = 0; // of the value that is being passed, at depth 1
  let name: string | undefined;
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"') {
      const end = stringEnd(text, at);
      if (depth === 1 && name === undefined) {
        name = JSON.parse(text.slice(at, end + 1)) as string;
        at = text.indexOf(':', end);
        start = at + 1;
      } else at = end;
    } else if (char === '{' || char === '[') depth++;
    else if (depth === 1 && (char === ',' || char === '}')) {
      if (name === key) found = text.slice(start, at).trim();
      name = undefined;
      if (char === '}') depth--;
    } else if (char === '}' || char === ']') depth--;
  }
  return found;
}

/** Where the string that begins at `start` ends: at a quote that no backslash escapes. */
function stringEnd(text: string, start: number): number {
  for (let end = text.indexOf('"', start + 1); ; end = text.indexOf('"', end + 1)) {
    let backslashes = 0;
    while (text[end - 1 - backslashes] === '\\') backslashes++;
    if (backslashes % 2 === 0) return end;
  }
}
