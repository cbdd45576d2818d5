/** For tests of every room. */

import { setImmediate } from 'node:timers/promises';
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';

/** Cases of a property test: so many in `npm test`, twenty times as many in `npm run test:full`; `PATINA_CASES` at most, if set. */
export function cases(usual: number): number {
  const { PATINA_CASES, PATINA_FULL } = process.env;
  return Math.min(Number(PATINA_CASES ?? Infinity), PATINA_FULL === '1' ? 20 * usual : usual);
}

/** Tensors that earlier tests of a file left to the collector must not go while one counts them, or their bytes. */
export async function collectGarbage(): Promise<void> {
  setFlagsFromString('--expose-gc');
  (runInNewContext('gc') as () => void)();
  await setImmediate(); // finalizers run in a later turn
}
