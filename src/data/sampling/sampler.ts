/** The order of the records in each epoch: a function of the seed and the epoch's number alone. */
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

export class Sampler {
  /** Records in every epoch, those that come twice counted twice. */
  readonly recordsPerEpoch: number;
  readonly #options: SamplerOptions;
  #last: { readonly epoch: number; readonly order: Uint32Array } | undefined;

  constructor(options: SamplerOptions) {
    this.#options = options;
    this.recordsPerEpoch = options.populations.reduce(
      (sum, population) => sum + recordsInEpoch(population),
      0,
    );
  }

  /** Numbers of the records of an epoch, in order. */
  order(epoch: number): Uint32Array {
    if (this.#last?.epoch !== epoch) this.#last = { epoch, order: this.#draw(epoch) };
    return this.#last.order;
  }

  #draw(epoch: number): Uint32Array {
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
    return grouping
      ? groupByLength(order, { ...grouping, random: shuffle ? random : undefined })
      : order;
  }
}

function recordsInEpoch({ records, weight }: Population): number {
  return Math.round(records.length * weight);
}
