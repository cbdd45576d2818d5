/**
 * Which rank trains on which records of an update, and in which micro-batch. All ranks find the same from the same lengths.
 *
 * One rank takes records in their order. Several deal them by tokens, since the slowest of them decides how long a step takes: the
 * longest record first, each to the micro-batch with the fewest tokens so far that has room; then micro-batches of like length
 * make a step, one for each rank.
 *
 * Where micro-batches fill a budget, `batchSize` is all records of the update: each rank is dealt one list, which it packs (pack.ts)
 * once the records are encoded. So a budget holds by true lengths, and no rank encodes what another trains on.
 */

/** How an update is cut up. */
export interface Cut {
  /** Most records of a micro-batch. */
  readonly batchSize: number;
  /** Ranks. */
  readonly worldSize: number;
}

/** The places in an update that one rank takes, as many lists as there are steps; some may be empty. */
export type Share = readonly (readonly number[])[];

/**
 * @param lengths tokens of each record, at least about
 * @returns by rank; every place is given once, and all ranks have the same number of micro-batches
 */
export function deal(lengths: ArrayLike<number>, { batchSize, worldSize }: Cut): Share[] {
  const count = lengths.length;
  const steps = Math.ceil(count / (batchSize * worldSize));
  const places = Array.from({ length: count }, (_, i) => i);
  if (worldSize === 1) {
    return [
      Array.from({ length: steps }, (_, k) => places.slice(k * batchSize, (k + 1) * batchSize)),
    ];
  }
  const bins = Array.from({ length: steps * worldSize }, (): Bin => ({ tokens: 0, places: [] }));
  // Sorting is stable: records of one length keep their order.
  for (const place of places.sort((a, b) => lengths[b]! - lengths[a]!)) {
    const open = bins.filter((bin) => bin.places.length < batchSize);
    const least = open.reduce((a, b) => (b.tokens < a.tokens ? b : a));
    least.tokens += lengths[place]!;
    least.places.push(place);
  }
  bins.sort((a, b) => b.tokens - a.tokens);
  return Array.from({ length: worldSize }, (_, rank) =>
    Array.from({ length: steps }, (_, step) => {
      // To and fro, so that no rank has the longest of every step.
      const at = step % 2 === 0 ? rank : worldSize - 1 - rank;
      return bins[step * worldSize + at]!.places.sort((a, b) => a - b);
    }),
  );
}

/** A micro-batch that fills. */
interface Bin {
  tokens: number;
  readonly places: number[];
}
