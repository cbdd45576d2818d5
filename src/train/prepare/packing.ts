/** What is to be expected where micro-batches fill a budget of tokens: how many an update has, and whether records are cut for it. */

import type { Recipe } from '../../config/index.js';
import type { Dataset } from '../../data/index.js';

type Fields = Pick<Recipe, 'batchTokens' | 'batchImages' | 'effectiveBatch' | 'text'>;

export interface PackingOptions {
  readonly data: Pick<Dataset, 'someLengths'>;
  readonly worldSize: number;
  readonly signal?: AbortSignal | undefined;
}

/** Records that are measured for it. */
const MEASURED = 64;

/** Sentences for the start of the run; none without `batchTokens`. */
export async function describePacking(
  { batchTokens, batchImages = Infinity, effectiveBatch = 1, text }: Fields,
  { data, worldSize, signal }: PackingOptions,
): Promise<string[]> {
  if (batchTokens === undefined) return [];
  const most = Math.min(batchTokens, text.maxLength);
  const lengths = Array.from(await data.someLengths(MEASURED, signal));
  const mean = (of: (length: number) => number): number =>
    lengths.reduce((sum, length) => sum + of(length), 0) / lengths.length;
  const tokens = mean((length) => Math.min(most, Math.abs(length)));
  const withImages = mean((length) => (length > 0 ? 1 : 0));
  const perRank = effectiveBatch / worldSize;
  const share = Math.max(tokens / batchTokens, withImages / batchImages);
  const expected = Math.ceil(perRank * share);
  const times = expected === 1 ? '1 micro-batch' : `${expected} micro-batches`;
  const devices = worldSize === 1 ? '' : ' on each device';
  const does = { truncate: 'cut', skip: 'left out', stop: 'refused' }[text.overlong];
  return [
    `about ${Math.round(tokens)} tokens a record: about ${times} an update${devices}`,
    ...(batchTokens < text.maxLength
      ? [
          `records of more than ${batchTokens} tokens are ${does}: batchTokens is less than text.maxLength (${text.maxLength})`,
        ]
      : []),
  ];
}
