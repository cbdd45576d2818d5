/**
 * Patterns over the names of parameters and tensors, such as `*.q_proj`: `*` stands for anything, dots included, all else for itself.
 *
 * (Files of a repository have the patterns of shells, in which `*` ends at a slash: see hub/pick.ts.)
 */

/** Whether the whole name matches the pattern. */
export function matchesName(pattern: string, name: string): boolean {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '[^]*');
  return new RegExp(`^${escaped}$`).test(name);
}

/** Whether any of the patterns matches. */
export function matchesAny(patterns: readonly string[], name: string): boolean {
  return patterns.some((pattern) => matchesName(pattern, name));
}
