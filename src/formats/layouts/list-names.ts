/** Names in messages: the first few, and how many more. */
import { brief } from '../strict-json.js';

const SHOWN = 6;

/** `"a", "b" and 3 more`. */
export function listNames(names: readonly string[]): string {
  return names.length === 0 ? 'nothing' : listSome(names.map(brief));
}

/** The same of texts that stand for themselves. */
export function listSome(texts: readonly string[]): string {
  const shown = texts.slice(0, SHOWN).join(', ');
  return texts.length > SHOWN ? `${shown} and ${texts.length - SHOWN} more` : shown;
}
