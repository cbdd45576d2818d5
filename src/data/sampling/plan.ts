/**
 * Which records make which update. A place in an epoch's order belongs to one update whatever happens: a record that turns
 * out to be bad leaves its place empty. So updates can be counted beforehand, and where a run stands is two numbers.
 */
import { DataError } from '../../base/errors.js';
import type { Sampler } from './sampler.js';

/** Where a run stands in its data; plain JSON. */
export interface Cursor {
  readonly epoch: number;
  /** Places of the epoch's order that are done. */
  readonly position: number;
  /** Of what the order was made: records, weights, seed, grouping. */
  readonly order: string;
}

export interface Batching {
  /** Records of a micro-batch on each rank. */
  readonly batchSize: number;
  /** Micro-batches of an update. @default 1 */
  readonly accumulate?: number | undefined;
  /** @default 1 */
  readonly worldSize?: number | undefined;
}

/** The records of one update on one rank. */
export interface PlannedUpdate {
  readonly epoch: number;
  /** Records of each micro-batch; their number is equal on all ranks, so that one may be empty. */
  readonly microBatches: readonly Uint32Array[];
  /** Places that are done after it. */
  readonly position: number;
  readonly startsEpoch: boolean;
  readonly endsEpoch: boolean;
}

/** Records of an update over all ranks. */
export function recordsPerUpdate({ batchSize, accumulate = 1, worldSize = 1 }: Batching): number {
  return batchSize * accumulate * worldSize;
}

/**
 * The updates from a place on, epoch after epoch; the last one of an epoch may be smaller. Micro-batches of a step go to
 * the ranks in turn, so that with length grouping all ranks hold records of like length.
 */
export function* planUpdates(
  sampler: Sampler,
  { rank = 0, ...batching }: Batching & { rank?: number | undefined },
  from: Pick<Cursor, 'epoch' | 'position'> = { epoch: 0, position: 0 },
): Generator<PlannedUpdate> {
  const { batchSize, worldSize = 1 } = batching;
  const step = batchSize * worldSize;
  let start = from.position;
  for (let epoch = from.epoch; ; epoch++) {
    const order = sampler.order(epoch);
    while (start < order.length) {
      const position = Math.min(order.length, start + recordsPerUpdate(batching));
      const microBatches: Uint32Array[] = [];
      for (let at = start; at < position; at += step) {
        const own = at + rank * batchSize;
        microBatches.push(
          order.slice(Math.min(own, position), Math.min(own + batchSize, position)),
        );
      }
      const startsEpoch = start === 0;
      const endsEpoch = position === order.length;
      yield { epoch, microBatches, position, startsEpoch, endsEpoch };
      start = position;
    }
    start = 0;
  }
}

/**
 * Reads a cursor that was saved with a run.
 *
 * @throws DataError E_CURSOR for what is no cursor, or one of other data
 */
export function readCursor(saved: unknown, order: string, recordsPerEpoch: number): Cursor {
  const cursor = saved as Partial<Cursor> | null | undefined;
  const { epoch = -1, position = -1 } = cursor ?? {};
  const isPlace = (value: unknown): boolean =>
    Number.isSafeInteger(value) && (value as number) >= 0;
  if (!isPlace(epoch) || !isPlace(position) || position > recordsPerEpoch) {
    throw cursorError('The place in the data that was saved with the run cannot be read.');
  }
  if (cursor?.order !== order) {
    throw cursorError(
      'The data are not those of the run: files, limits, weights, seed, validation or grouping have changed.',
    );
  }
  return { epoch, position, order };
}

function cursorError(message: string): DataError {
  return new DataError(message, {
    code: 'E_CURSOR',
    hint: 'Put data and recipe back as they were, or start a new run from the checkpoint.',
  });
}
