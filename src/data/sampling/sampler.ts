/**
 * The order of the records in each epoch: a function of the seed and the epoch's number, and where batches are grouped of their
 * size too.
 */
import { groupByLength, type GroupOptions } from './group.js';
import { Random } from './random.js';

/** Records of a source, and how often they come in an epoch. */
export interface Population {
  /** Numbers of the records, in the order of their files. */
  readonly records: Uint32Array;
  /** Passes in an epoch; of a part of a pass the records are drawn anew each epoch. */
  readonly weight: number;
}

export interface SamplerOptions {
  readonly populations: readonly Population[];
  readonly seed: number;
  readonly shuffle: boolean;
  /** @default none */
  readonly grouping?: Omit<GroupOptions, 'random'> | undefined;
}

/**
 * From a place of an epoch on, its records are grouped for batches of so many. A run whose batch changes on the way groups anew
 * what is left of its epoch.
 */
export type Regrouping = readonly [place: number, batch: number];

export class Sampler {
  /** Records in every epoch, those that come twice counted twice. */
  readonly recordsPerEpoch: number;
  readonly #options: SamplerOptions;
  #last: { readonly of: string; readonly order: Uint32Array } | undefined;

  constructor(options: SamplerOptions) {
    this.#options = options;
    this.recordsPerEpoch = options.populations.reduce(
      (sum, population) => sum + recordsInEpoch(population),
      0,
    );
  }

  /** How an epoch is grouped that no change of the batch has interrupted; nothing where batches are not grouped. */
  get grouped(): readonly Regrouping[] {
    const { grouping } = this.#options;
    return grouping === undefined ? [] : [[0, grouping.batch]];
  }

  /** Numbers of the records of an epoch, in order. */
  order(epoch: number, grouped = this.grouped): Uint32Array {
    const of = JSON.stringify([epoch, grouped]);
    if (this.#last?.of !== of) this.#last = { of, order: this.#draw(epoch, grouped) };
    return this.#last.order;
  }

  #draw(epoch: number, grouped: readonly Regrouping[]): Uint32Array {
    const { populations, seed, shuffle, grouping } = this.#options;
    const random = new Random(seed, 'epoch', epoch);
    const order = new Uint32Array(this.recordsPerEpoch);
    let filled = 0;
    const add = (records: Uint32Array): void => {
      order.set(records, filled);
      filled += records.length;
    };
    for (const { records, weight } of populations) {
      const passes = Math.floor(weight);
      for (let pass = 0; pass < passes; pass++) add(records);
      add(random.subset(records, recordsInEpoch({ records, weight }) - passes * records.length));
    }
    if (shuffle) random.shuffle(order);
    for (const [place, batch] of grouping ? grouped : []) {
      const rest = order.subarray(place);
      // Batches of like length that were not come to are in no random order.
      const again = place === 0 ? random : new Random(seed, 'epoch', epoch, 'from', place, batch);
      if (shuffle && place > 0) again.shuffle(rest);
      const options = { ...grouping!, batch, random: shuffle ? again : undefined };
      rest.set(groupByLength(rest, options));
    }
    return order;
  }
}

function recordsInEpoch({ records, weight }: Population): number {
  return Math.round(records.length * weight);
}
