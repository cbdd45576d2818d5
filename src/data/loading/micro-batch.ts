/** What the model gets at once, and how much it is. */
import type { BatchCounts } from '../../models/batch.js';
import type { LoadedSample, LoadOutcome } from './record-loader.js';

export interface DataCounts extends BatchCounts {
  /** Samples whose text was cut at `maxLength`. */
  readonly truncated: number;
}

export interface MicroBatch {
  /** Empty if none of its records can be used, or where another rank has more. */
  readonly samples: readonly LoadedSample[];
  readonly counts: DataCounts;
}

const NOTHING: DataCounts = {
  sequences: 0,
  tokens: 0,
  imageTokens: 0,
  images: 0,
  supervised: 0,
  truncated: 0,
};

/** The samples among what has been loaded, and their counts. */
export function microBatch(outcomes: readonly LoadOutcome[]): MicroBatch {
  return microBatchOf(outcomes.flatMap((o) => (o.status === 'sample' ? [o.sample] : [])));
}

export function microBatchOf(samples: readonly LoadedSample[]): MicroBatch {
  const counts = samples.map(
    ({ inputIds, imageTokens, images, supervised, truncated }): DataCounts => ({
      sequences: 1,
      tokens: inputIds.length,
      imageTokens,
      images: images.length,
      supervised,
      truncated: truncated > 0 ? 1 : 0,
    }),
  );
  return { samples, counts: sumCounts(counts) };
}

export function sumCounts(list: readonly DataCounts[]): DataCounts {
  return list.reduce(
    (a, b) => ({
      sequences: a.sequences + b.sequences,
      tokens: a.tokens + b.tokens,
      imageTokens: a.imageTokens + b.imageTokens,
      images: a.images + b.images,
      supervised: a.supervised + b.supervised,
      truncated: a.truncated + b.truncated,
    }),
    NOTHING,
  );
}
