/** Finds an epoch of which no record can be used: a run that skips bad records would else go on for ever, learning nothing. */
import { DataError } from '../../base/errors.js';
import type { PlannedUpdate } from '../sampling/plan.js';
import { describeRejected, type RejectedRecord } from '../sources/place.js';

export class EpochCheck {
  #whole = false;
  #epoch = -1;
  #records = 0;
  #usable = 0;
  #first: RejectedRecord | undefined;

  /** @throws DataError E_DATA_UNUSABLE at the end of such an epoch */
  see(plan: PlannedUpdate, records: number, rejected: readonly RejectedRecord[]): void {
    if (plan.epoch !== this.#epoch) {
      // Of an epoch that is resumed in its middle nothing can be said.
      this.#whole = plan.startsEpoch;
      this.#epoch = plan.epoch;
      [this.#records, this.#usable, this.#first] = [0, 0, undefined];
    }
    this.#records += records;
    this.#usable += records - rejected.length;
    this.#first ??= rejected[0];
    if (!plan.endsEpoch || !this.#whole || this.#usable > 0 || !this.#first) return;
    throw new DataError(
      `None of the ${this.#records} records can be used. The first: ${describeRejected(this.#first)}.`,
      { code: 'E_DATA_UNUSABLE', hint: this.#first.hint },
    );
  }
}
