/** Looking into JSON that others wrote. */

export type JsonObject = Readonly<Record<string, unknown>>;

export function isObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** A value as it stands in an error message: JSON, cut at 60 characters. */
export function shown(value: unknown): string {
  let text;
  try {
    text = JSON.stringify(value) ?? String(value);
  } catch {
    // Nested beyond the stack.
    text = Array.isArray(value) ? '[[...' : '{...';
  }
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
