/** Names in messages: the first few, and how many more. */

const SHOWN = 6;

/** `"a", "b" and 3 more`. */
export function listNames(names: readonly string[]): string {
  if (names.length === 0) return 'nothing';
  const shown = names
    .slice(0, SHOWN)
    .map((name) => JSON.stringify(name))
    .join(', ');
  return names.length > SHOWN ? `${shown} and ${names.length - SHOWN} more` : shown;
}
