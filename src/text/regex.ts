/**
 * Oniguruma patterns of `tokenizer.json` made safe for @huggingface/tokenizers, which rewrites them to
 * JavaScript (`\s` as Unicode White_Space, classes, anchors) but not all that they mean.
 */
import { DataError } from '../base/errors.js';

/** Letters beyond ASCII that equal an ASCII letter when case is ignored: long s and the Kelvin sign. */
const FOLDS: Readonly<Record<string, string>> = { s: 'ſ', k: '\u212a' };

/** `(?i:...)` of plain letters, alternatives and classes, the form that tokenizers use. */
const IGNORE_CASE = /\(\?i:([^()\\]*)\)/g;

/** What would match something else in JavaScript: possessive quantifiers and atomic groups. */
const UNSUPPORTED = /[*+?}]\+|\(\?>/;

/**
 * The pattern with every `(?i:...)` spelled out, letters beyond ASCII included: `(?i:'s)` as `(?:'[sSſ])`.
 *
 * Throws E_TOKENIZER_UNSUPPORTED on possessive quantifiers and atomic groups, and where case is ignored in anything
 * but ASCII letters one by one.
 */
export function safePattern(pattern: string): string {
  const skeleton = pattern.replace(/\\[pPux]\{[^}]*\}|\\./gs, 'x').replace(/\[[^\]]*\]/g, 'x');
  if (UNSUPPORTED.test(skeleton)) {
    throw unsupported(pattern, 'uses a possessive quantifier or an atomic group');
  }
  const spelled = pattern.replace(IGNORE_CASE, (_, body: string) => {
    if (!isPlain(body)) throw unsupported(pattern, 'ignores the case of more than single letters');
    return `(?:${ignoreCase(body)})`;
  });
  // What is left encloses groups or escapes, where the library folds ASCII alone, or everything that follows.
  if (/(?<!\\)(?:\\\\)*\(\?[a-z]*i/.test(spelled)) {
    throw unsupported(pattern, 'ignores the case of more than single letters');
  }
  return spelled;
}

/** Whether folding letter by letter is all: no range of letters, no letter beyond ASCII that has a case. */
function isPlain(body: string): boolean {
  const hasRange = /[^[]-[^\]]/.test(body.replace(/\d-\d/g, ''));
  return (
    !hasRange && !Array.from(body).some((c) => c > '\x7f' && c.toLowerCase() !== c.toUpperCase())
  );
}

function unsupported(pattern: string, what: string): DataError {
  return new DataError(`The pattern ${JSON.stringify(pattern)} ${what}.`, {
    code: 'E_TOKENIZER_UNSUPPORTED',
    hint: 'Use a tokenizer.json without `++`, `*+`, `?+`, `(?>...)`, and with `(?i:...)` around plain letters only.',
  });
}

function ignoreCase(body: string): string {
  let inClass = false;
  let out = '';
  for (const character of body) {
    if (character === '[') inClass = true;
    if (character === ']') inClass = false;
    if (!/[A-Za-z]/.test(character)) {
      out += character;
      continue;
    }
    const lower = character.toLowerCase();
    const cases = lower + character.toUpperCase() + (FOLDS[lower] ?? '');
    out += inClass ? cases : `[${cases}]`;
  }
  return out;
}
