/**
 * Where in a script a field of the recipe is written. A script runs, so what it exports may come from anywhere; a line is given only
 * where the text leaves one place for it.
 */
import type { Path } from './explain.js';

/** Comments, and strings with what they hold. */
const OPAQUE = /\/\/[^\n]*|\/\*[^]*?\*\/|(['"])(?:\\.|(?!\1)[^\\\n])*\1|`(?:\\.|[^\\`])*`/g;

/** `file:line` of the field at `path`, else of the innermost field around it that is found, else `file`. */
export function locateInScript(source: string, file: string, path: Path): string {
  const text = source.replace(OPAQUE, (found: string, _quote, offset: number) => {
    const isKey = /^['"]/.test(found) && /^\s*:/.test(source.slice(offset + found.length));
    return isKey ? found : found.replace(/[^\n]/g, ' ');
  });
  for (let length = path.length; length > 0; length--) {
    const offset = offsetOf(text, path.slice(0, length));
    if (offset !== undefined) return `${file}:${source.slice(0, offset).split('\n').length}`;
  }
  return file;
}

function offsetOf(text: string, path: Path): number | undefined {
  const key = path.at(-1);
  if (typeof key !== 'string') return undefined;
  const found = keysNamed(text, key);
  if (found.length <= 1 || path.length === 1) return found.length === 1 ? found[0] : undefined;
  // Several sections have a key of this name: the one in the section's own braces.
  const section = offsetOf(text, path.slice(0, -1));
  if (section === undefined) return undefined;
  const end = endOfBraces(text, section);
  const inside = found.filter((offset) => offset > section && offset < end);
  return inside.length === 1 ? inside[0] : undefined;
}

function keysNamed(text: string, key: string): number[] {
  const name = key.replace(/[^\w]/g, '\\$&');
  const pattern = new RegExp(`(?<=[{,]\\s*)(?:${name}|'${name}'|"${name}")(?=\\s*[:,}])`, 'g');
  return [...text.matchAll(pattern)].map(({ index }) => index);
}

/** Where the braces that open behind `from` are closed. */
function endOfBraces(text: string, from: number): number {
  let depth = 0;
  for (let i = text.indexOf('{', from); i >= 0 && i < text.length; i++) {
    if (text[i] === '{') depth++;
    if (text[i] === '}' && --depth === 0) return i;
  }
  return text.length;
}
