/**
 * Which records make a micro-batch, where one holds as many as fit a budget of tokens and pictures.
 *
 * Best fit, largest first (Johnson 1973): each record goes where it leaves least room. With many records that takes at most
 * 11/9 of the fewest micro-batches there can be, and it is a function of the sizes and their order alone.
 */

/** What a micro-batch holds at most. */
export interface Budget {
  /** Those of pictures included. */
  readonly tokens: number;
  /** @default no limit */
  readonly images?: number | undefined;
}

/** How much of a budget a record takes. */
export interface RecordSize {
  readonly tokens: number;
  readonly images: number;
}

/**
 * @returns places in `sizes`, each once; those of a micro-batch in their order, the fullest micro-batch first
 * @throws RangeError for a record that is larger than the budget
 */
export function pack(sizes: readonly RecordSize[], budget: Budget): number[][] {
  const bins: Bin[] = [];
  const places = sizes.map((_, place) => place);
  // Sorting is stable: records of one size keep their order, and the first of equal micro-batches takes a record.
  for (const place of places.sort((a, b) => fill(sizes[b]!, budget) - fill(sizes[a]!, budget))) {
    const size = sizes[place]!;
    if (fill(size, budget) > 1) {
      throw new RangeError(`A record of ${size.tokens} tokens is beyond the budget of its batch.`);
    }
    let best: Bin | undefined;
    for (const bin of bins) {
      if (fill(sum(bin, size), budget) > 1) continue;
      if (best === undefined || fill(bin, budget) > fill(best, budget)) best = bin;
    }
    if (best === undefined) bins.push((best = { tokens: 0, images: 0, places: [] }));
    Object.assign(best, sum(best, size));
    best.places.push(place);
  }
  bins.sort((a, b) => b.tokens - a.tokens);
  return bins.map((bin) => bin.places.sort((a, b) => a - b));
}

/** The share of the budget that is taken, of tokens or of pictures, whichever is more. */
function fill({ tokens, images }: RecordSize, budget: Budget): number {
  return Math.max(tokens / budget.tokens, images / (budget.images ?? Infinity));
}

function sum(a: RecordSize, b: RecordSize): RecordSize {
  return { tokens: a.tokens + b.tokens, images: a.images + b.images };
}

/** A micro-batch that fills. */
interface Bin {
  tokens: number;
  images: number;
  readonly places: number[];
}
