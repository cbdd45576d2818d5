/**
 * The `code` of a system error such as `ENOENT`, or undefined. Plain JavaScript, for the set-up too.
 *
 * @param {unknown} error
 * @returns {string | undefined}
 */
export function errorCode(error) {
  const code = error instanceof Error && 'code' in error ? error.code : undefined;
  return typeof code === 'string' ? code : undefined;
}
