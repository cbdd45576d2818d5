/** What is odd about the records of a run: each kind is told once, when it first comes, and counted from then on. */

import {
  describePlace,
  shownId,
  WARNINGS,
  type DataWarning,
  type OddSample,
} from '../../data/index.js';
import type { WarningEvent } from '../events.js';

export class RecordWarnings {
  private readonly told: Set<string>;
  private readonly records = new Map<string, number>();

  /** @param told kinds that need not be told again */
  constructor(told: readonly DataWarning[] = []) {
    this.told = new Set(told);
  }

  /** Records by the kind of their warning. */
  get counts(): Readonly<Record<string, number>> {
    return Object.fromEntries(this.records);
  }

  *see(samples: readonly OddSample[], update: number): Generator<WarningEvent> {
    for (const { warnings, place, id } of samples) {
      for (const code of warnings) {
        this.records.set(code, (this.records.get(code) ?? 0) + 1);
        if (this.told.has(code)) continue;
        this.told.add(code);
        const name = id === null ? '' : `, id ${shownId(id)}`;
        const message = `${describePlace(place)}${name}: ${WARNINGS[code]}`;
        yield { type: 'warning', update, code, message, record: { ...place, id } };
      }
    }
  }

  restore(counts: Readonly<Record<string, number>>): void {
    for (const [kind, count] of Object.entries(counts)) {
      this.records.set(kind, count);
      this.told.add(kind);
    }
  }
}
