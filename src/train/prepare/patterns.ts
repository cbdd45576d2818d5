/** Patterns over names: `*` stands for anything, dots included; all else for itself. */

/** Whether a name matches a pattern such as `*.q_proj`. */
export function matches(pattern: string, name: string): boolean {
  const escaped = pattern.replace(/[.+?^${}()|[\]\\]/g, '\\$&').replaceAll('*', '.*');
  return new RegExp(`^${escaped}$`).test(name);
}
