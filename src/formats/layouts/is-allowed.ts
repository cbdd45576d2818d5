/** Names that a caller allows to differ. */

/** Whether one of the patterns, a name or a beginning with `*` behind it, covers the name. */
export function isAllowed(name: string, patterns: readonly string[]): boolean {
  return patterns.some((pattern) =>
    pattern.endsWith('*') ? name.startsWith(pattern.slice(0, -1)) : name === pattern,
  );
}
