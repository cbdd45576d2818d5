/**
 * Records that are left out of their updates: those that the recipe names, and those that a guard found to spoil one. An update keeps its
 * other records and micro-batches as they are, so that it makes no difference since when a record has been in quarantine.
 */

import { resolve } from 'node:path';
import { microBatchOf, sumCounts, type RecordPlace, type UpdateData } from '../../data/index.js';
import type { Peers } from '../../parallel/index.js';
import type { GuardedRecord } from '../events.js';

type Where = Pick<GuardedRecord, 'source' | 'line'>;

export class Quarantine {
  private readonly keys = new Set<string>();
  private readonly records: Where[] = [];

  constructor(records: readonly Where[]) {
    for (const record of records) this.add(record);
  }

  add({ source, line }: Where): void {
    const key = keyOf({ source, line });
    if (this.keys.has(key)) return;
    this.keys.add(key);
    this.records.push({ source, line });
  }

  /** All of them, plain. */
  get list(): readonly Where[] {
    return this.records;
  }

  /** An update without them; all ranks call it, each with its own share. */
  async applyTo(data: UpdateData, ranks: Peers): Promise<UpdateData> {
    if (this.keys.size === 0) return data;
    const microBatches = data.microBatches.map(({ samples }) =>
      microBatchOf(samples.filter(({ place }) => !this.keys.has(keyOf(whereOf(place))))),
    );
    const counts = sumCounts(microBatches.map((each) => each.counts));
    const all = await ranks.gather('what quarantine leaves', counts);
    const shares = data.shares.map((share, rank) => ({ ...share, counts: all[rank]! }));
    return { ...data, microBatches, shares, counts: sumCounts(all) };
  }
}

/** A record as it is named in events and recipes. */
export function whereOf({ file, line, record }: RecordPlace): Where {
  return { source: file, line: line ?? record };
}

function keyOf({ source, line }: Where): string {
  return `${line} ${resolve(source)}`;
}
