/** For tests of every room. */

/** Cases of a property test: so many in `npm test`, twenty times as many in `npm run test:full`; `PATINA_CASES` at most, if set. */
export function cases(usual: number): number {
  const { PATINA_CASES, PATINA_FULL } = process.env;
  return Math.min(Number(PATINA_CASES ?? Infinity), PATINA_FULL === '1' ? 20 * usual : usual);
}
