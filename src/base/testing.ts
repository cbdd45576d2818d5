/** For tests of every room. */

/** Cases of a property test: so many in `npm test`, twenty times as many in `npm run test:full`. */
export function cases(usual: number): number {
  return process.env['PATINA_FULL'] === '1' ? 20 * usual : usual;
}
