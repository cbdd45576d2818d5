/**
 * Which records make which update. A place in an epoch's order belongs to one update whatever happens: a record that turns
 * out to be bad leaves its place empty. So updates can be counted beforehand, and where a run stands is two numbers.
 */
import { DataError } from '../../base/errors.js';
import type { Regrouping, Sampler } from './sampler.js';

/** A place in the records of a run. */
export interface Place {
  readonly epoch: number;
  /** Places of the epoch's order that are done. */
  readonly position: number;
  /** How this epoch's order was grouped. @default as one that nothing has interrupted */
  readonly grouped?: readonly Regrouping[] | undefined;
}

/** Where a run stands in its data; plain JSON. */
export interface Cursor extends Place {
  /** Of what the order is made. */
  readonly order: OrderFacts;
}

/** What the order of the records follows from, as digests: equal for equal data and options. */
export interface OrderFacts {
  /** What the files hold, wherever they lie. */
  readonly files: string;
  /** Seed, limits, weights, validation, grouping: all but the size of batches. */
  readonly options: string;
}

/** How records make updates, and updates micro-batches: so many records, or what fits a budget. */
export type Batching = BatchingByRecords | BatchingByTokens;

export interface BatchingByRecords {
  readonly batchTokens?: undefined;
  /** Most records of a micro-batch. */
  readonly batchSize: number;
  /** Micro-batches of an update. @default 1 */
  readonly accumulate?: number | undefined;
  /** @default 1 */
  readonly worldSize?: number | undefined;
}

export interface BatchingByTokens {
  /** Most tokens of a micro-batch, those of pictures included. */
  readonly batchTokens: number;
  /** Most pictures of a micro-batch. @default no limit */
  readonly batchImages?: number | undefined;
  /** Records of an update over all ranks. */
  readonly effectiveBatch: number;
  /** @default 1 */
  readonly worldSize?: number | undefined;
}

/** The records of one update, of all ranks; its place is the one after it. */
export interface PlannedUpdate extends Place {
  /** In the order of the epoch. */
  readonly records: Uint32Array;
  readonly startsEpoch: boolean;
  readonly endsEpoch: boolean;
}

/** Records of an update over all ranks. */
export function recordsPerUpdate(batching: Batching): number {
  if (batching.batchTokens !== undefined) return batching.effectiveBatch;
  const { batchSize, accumulate = 1, worldSize = 1 } = batching;
  return batchSize * accumulate * worldSize;
}

export type PlanOptions = Batching & {
  /** @default the beginning */
  readonly from?: Place | undefined;
  /** Records of all epochs together after which there are no more. @default without end */
  readonly until?: number | undefined;
};

/** The updates from a place on, epoch after epoch; the last one of an epoch, or of all, may be smaller. */
export function* planUpdates(
  sampler: Sampler,
  { from = { epoch: 0, position: 0 }, until = Infinity, ...batching }: PlanOptions,
): Generator<PlannedUpdate> {
  let start = from.position;
  let grouped = regrouped(from, sampler.grouped);
  for (let epoch = from.epoch; ; epoch++) {
    const order = sampler.order(epoch, grouped);
    const end = Math.min(order.length, until - epoch * order.length);
    while (start < end) {
      const position = Math.min(end, start + recordsPerUpdate(batching));
      const records = order.slice(start, position);
      const startsEpoch = start === 0;
      const endsEpoch = position === order.length;
      yield {
        ...{ epoch, records, position, startsEpoch, endsEpoch },
        ...(grouped.length > 0 && { grouped }),
      };
      start = position;
    }
    if (end < order.length) return;
    start = 0;
    grouped = sampler.grouped;
  }
}

/** How an epoch is grouped that goes on at `position`, perhaps with batches of another size. */
function regrouped(
  { position, grouped = [] }: Place,
  now: readonly Regrouping[],
): readonly Regrouping[] {
  const batch = now[0]?.[1];
  if (batch === undefined || grouped.length === 0 || grouped.at(-1)![1] === batch) {
    return grouped.length === 0 ? now : grouped;
  }
  return [...grouped.filter(([place]) => place < position), [position, batch]];
}

/**
 * How many updates lie between two places, counted in records from the beginning of the run: none goes over the end of an
 * epoch.
 */
export function countUpdates(
  { from = 0, until }: { from?: number; until: number },
  { recordsPerEpoch, records }: { recordsPerEpoch: number; records: number },
): number {
  const begun = from - (from % recordsPerEpoch);
  const inFirst = Math.ceil(Math.max(0, Math.min(until, begun + recordsPerEpoch) - from) / records);
  const rest = Math.max(0, until - begun - recordsPerEpoch);
  const whole = Math.floor(rest / recordsPerEpoch) * Math.ceil(recordsPerEpoch / records);
  return inFirst + whole + Math.ceil((rest % recordsPerEpoch) / records);
}

/** How many records of a run are done at a place. */
export function recordsDone({ epoch, position }: Place, recordsPerEpoch: number): number {
  return epoch * recordsPerEpoch + position;
}

/**
 * Reads a cursor that was saved with a run.
 *
 * @throws DataError E_CURSOR for what is no cursor, or one of other data
 */
export function readCursor(saved: unknown, order: OrderFacts, recordsPerEpoch: number): Place {
  const cursor = saved as Partial<Cursor> | null | undefined;
  const { epoch = -1, position = -1, grouped } = cursor ?? {};
  const isPlace = (value: unknown): boolean =>
    Number.isSafeInteger(value) && (value as number) >= 0;
  if (!isPlace(epoch) || !isPlace(position) || !isGrouped(grouped)) {
    throw cursorError('The place in the data that was saved with the run cannot be read.');
  }
  if (cursor?.order?.files !== order.files) {
    throw cursorError('The data files do not hold what they held when the run was saved.');
  }
  if (cursor.order.options !== order.options || position > recordsPerEpoch) {
    throw cursorError(
      'The order of the data is not that of the run: seed, limits, weights, shuffling, validation or grouping have changed.',
    );
  }
  return { epoch, position, grouped };
}

function isGrouped(value: unknown): value is Place['grouped'] {
  const isPair = (pair: unknown): boolean =>
    Array.isArray(pair) && pair.length === 2 && pair.every((n) => Number.isSafeInteger(n));
  return value === undefined || (Array.isArray(value) && value.length > 0 && value.every(isPair));
}

function cursorError(message: string): DataError {
  return new DataError(message, {
    code: 'E_CURSOR',
    hint:
      'Put files and recipe back as they were: which records are left to train on follows from them. Or begin a new run on the ' +
      'changed data from what this one has learnt: name its folder as `model.from`, or as `model.adapter` if it trains by LoRA.',
  });
}
