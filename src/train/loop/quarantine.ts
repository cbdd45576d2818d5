/**
 * Records that are left out of their updates: those that the recipe names, and those that a guard found to spoil one. An update keeps its
 * other records and micro-batches as they are, so that it makes no difference since when a record has been in quarantine.
 */

import { resolve } from 'node:path';
import type { Recipe } from '../../config/index.js';
import {
  microBatchOf,
  sumCounts,
  type LoadedSample,
  type RecordPlace,
  type UpdateData,
} from '../../data/index.js';
import type { Peers } from '../../parallel/index.js';
import type { GuardedRecord } from '../events.js';

/** One record by its number, or all that begin on a line. */
export type Quarantined = Recipe['guard']['quarantine'][number];

export class Quarantine {
  private readonly entries = new Map<string, Quarantined>();

  constructor(records: readonly Quarantined[]) {
    for (const record of records) this.add(record);
  }

  add({ source, line, record }: Quarantined): void {
    const key = record === undefined ? lineKey(source, line) : recordKey(source, record);
    const numbered = record === undefined ? {} : { record };
    this.entries.set(key, { source, line, ...numbered });
  }

  /** All of them, plain. */
  get list(): readonly Quarantined[] {
    return [...this.entries.values()];
  }

  /** An update without them; all ranks call it, each with its own share. */
  async applyTo(data: UpdateData, ranks: Peers): Promise<UpdateData> {
    if (this.entries.size === 0) return data;
    const microBatches = data.microBatches.map(({ samples }) =>
      microBatchOf(samples.filter(({ place }) => !this.has(place))),
    );
    const counts = sumCounts(microBatches.map((each) => each.counts));
    const all = await ranks.gather('what quarantine leaves', counts);
    const shares = data.shares.map((share, rank) => ({ ...share, counts: all[rank]! }));
    return { ...data, microBatches, shares, counts: sumCounts(all) };
  }

  private has({ file, line, record }: RecordPlace): boolean {
    const { entries } = this;
    return entries.has(recordKey(file, record)) || entries.has(lineKey(file, line ?? record));
  }
}

/** A record as it is named in events. */
export function guarded({
  place: { file, line, record },
  id,
}: Pick<LoadedSample, 'place' | 'id'>): GuardedRecord {
  return { source: file, line: line ?? record, record, id };
}

const lineKey = (source: string, line: number): string => `line ${line} ${resolve(source)}`;
const recordKey = (source: string, record: number): string => `record ${record} ${resolve(source)}`;
