/** JSON from files, more strictly than `JSON.parse`: UTF-8 without repair, no key twice in one object. */
import { DataError } from '../base/errors.js';

/**
 * Parses JSON.
 *
 * @param where What messages call the text, for example a path.
 * @throws DataError E_JSON
 */
export function parseStrictJson(bytes: Uint8Array, where: string): unknown {
  let text: string;
  let value: unknown;
  try {
    text = new TextDecoder('utf-8', { fatal: true }).decode(bytes);
    value = JSON.parse(text);
  } catch (error) {
    throw fault(where, error instanceof Error ? error.message : String(error), error);
  }
  const twice = repeatedKey(text);
  if (twice !== undefined) throw fault(where, `the key ${twice} occurs twice in one object`);
  return value;
}

/** Whether a JSON value is an object, neither array nor null. */
export function isJsonObject(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A JSON value for messages: short, and without walking into what is nested. */
export function brief(value: unknown): string {
  if (value === undefined) return 'missing';
  const isFlat = Array.isArray(value) && value.every((item) => typeof item !== 'object');
  if (typeof value === 'object' && value !== null && !isFlat) {
    return Array.isArray(value) ? 'a nested list' : 'an object';
  }
  const text = JSON.stringify(value);
  return text.length > 120 ? `${text.slice(0, 117)}...` : text;
}

/** The first key that repeats; `text` is valid JSON. One pass without recursion. */
function repeatedKey(text: string): string | undefined {
  const open: (Set<string> | undefined)[] = [];
  let mayBeKey = false;
  for (let at = 0; at < text.length; at++) {
    const char = text[at]!;
    if (char === '"') {
      const end = stringEnd(text, at);
      if (mayBeKey) {
        const keys = open.at(-1)!;
        const key = JSON.parse(text.slice(at, end + 1)) as string;
        if (keys.has(key)) return JSON.stringify(key.slice(0, 120));
        keys.add(key);
        mayBeKey = false;
      }
      at = end;
    } else if (char === '{' || char === '[') {
      open.push(char === '{' ? new Set() : undefined);
      mayBeKey = char === '{';
    } else if (char === '}' || char === ']') {
      open.pop();
      mayBeKey = false;
    } else if (char === ',') mayBeKey = open.at(-1) !== undefined;
  }
  return undefined;
}

/** Where the string that begins at `start` ends: at a quote that no backslash escapes. */
function stringEnd(text: string, start: number): number {
  let end = start + 1;
  while (text[end] !== '"') end += text[end] === '\\' ? 2 : 1;
  return end;
}

function fault(where: string, what: string, cause?: unknown): DataError {
  return new DataError(`${where} is not sound JSON: ${what}.`, {
    code: 'E_JSON',
    hint: 'Correct the file, or download it again.',
    cause,
  });
}
