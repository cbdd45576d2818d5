/** What a run has counted, whatever sittings it took: kept in its checkpoints, told at its end. */

import type { DataWarning, UpdateData } from '../../data/index.js';
import type { TrainerCounters } from '../checkpoint/trainer-state.js';
import type { EndEvent, UpdateEvent, WarningEvent } from '../events.js';
import { RecordWarnings } from './record-warnings.js';
import type { ValidationLoss } from './validation.js';

export class Tally {
  private readonly warnings: RecordWarnings;
  private skipped = 0;
  private badRecords = 0;
  private loss: number | null = null;
  private validated: { readonly update: number; readonly loss: number } | null = null;

  /** @param told kinds of warnings that need not be told again */
  constructor(told?: readonly DataWarning[]) {
    this.warnings = new RecordWarnings(told);
  }

  /** Counts the records of an update. @returns what is odd about them for the first time */
  addRecords({ odd, rejected }: UpdateData, update: number): WarningEvent[] {
    this.badRecords += rejected.length;
    return [...this.warnings.see(odd, update)];
  }

  addUpdate({ loss, skipped }: UpdateEvent): void {
    this.loss = loss ?? this.loss;
    this.skipped += Number(skipped);
  }

  addValidation(update: number, { loss }: ValidationLoss): void {
    this.validated = { update, loss };
  }

  /** The validation loss of the model as it is after so many updates. */
  validationLoss(update: number): number | undefined {
    return this.validated?.update === update ? this.validated.loss : undefined;
  }

  get counters(): Pick<TrainerCounters, 'skipped' | 'badRecords' | 'warnings'> {
    const { skipped, badRecords, warnings } = this;
    return { skipped, badRecords, warnings: warnings.counts };
  }

  restore({ skipped, badRecords, warnings }: TrainerCounters): void {
    this.skipped = skipped;
    this.badRecords = badRecords;
    this.warnings.restore(warnings);
  }

  get end(): Pick<EndEvent, 'loss' | 'validationLoss' | 'skipped' | 'badRecords' | 'warnings'> {
    return { ...this.counters, loss: this.loss, validationLoss: this.validated?.loss ?? null };
  }
}
