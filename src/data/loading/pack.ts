/** Samples of one update in micro-batches of a budget: as few as best fit finds, in which attention sees each sample alone. */
import { rejectedRecord, type RejectedRecord } from '../sources/place.js';
import type { LoadedSample } from './record-loader.js';

/** What a micro-batch may hold. */
export interface Budget {
  readonly tokens: number;
  /** @default as many as there are */
  readonly images?: number | undefined;
}

type Size = Pick<LoadedSample, 'inputIds' | 'images'>;

/**
 * Best fit, longest first: each sample goes where it leaves the least room, into a new micro-batch where it fits nowhere; of equal ones the
 * earlier first. Within a micro-batch samples keep their order; the largest micro-batch comes first, so that those of several ranks which meet in
 * a step are alike.
 *
 * @param samples each within the budget
 */
export function pack<T extends Size>(samples: readonly T[], budget: Budget): T[][] {
  const { tokens: most, images: mostImages = Infinity } = budget;
  const bins: Bin[] = [];
  // Sorting is stable.
  const places = samples
    .map((_, i) => i)
    .sort((a, b) => lengthOf(samples[b]!) - lengthOf(samples[a]!));
  for (const place of places) {
    const sample = samples[place]!;
    const fits = (bin: Bin): boolean =>
      bin.tokens + lengthOf(sample) <= most && bin.images + sample.images.length <= mostImages;
    const open = bins.filter(fits);
    let bin = open.reduce<Bin | undefined>(
      (best, each) => (best === undefined || each.tokens > best.tokens ? each : best),
      undefined,
    );
    if (bin === undefined) bins.push((bin = { tokens: 0, images: 0, places: [] }));
    bin.tokens += lengthOf(sample);
    bin.images += sample.images.length;
    bin.places.push(place);
  }
  return bins
    .sort((a, b) => b.tokens - a.tokens)
    .map((bin) => bin.places.sort((a, b) => a - b).map((place) => samples[place]!));
}

/** Why a sample fits into no micro-batch; `null` for one that does. */
export function overBudget(
  sample: LoadedSample,
  { tokens, images = Infinity }: Budget,
): RejectedRecord | null {
  const refused = (field: string, has: string, most: number, rule: string): RejectedRecord =>
    rejectedRecord(sample.place, sample.id, {
      code: 'E_OVER_BUDGET',
      message: `it has ${has}, more than a micro-batch may (${field}: ${most})`,
      hint: `Raise \`${field}\`${rule}.`,
    });
  if (lengthOf(sample) > tokens) {
    const has = `${lengthOf(sample)} tokens`;
    return refused('batchTokens', has, tokens, ', or cut longer records by `text.maxLength`');
  }
  return sample.images.length > images
    ? refused('batchImages', `${sample.images.length} pictures`, images, '')
    : null;
}

const lengthOf = ({ inputIds }: Pick<Size, 'inputIds'>): number => inputIds.length;

/** A micro-batch that fills. */
interface Bin {
  tokens: number;
  images: number;
  readonly places: number[];
}
