/** What a run has counted, whatever sittings it took: kept in its checkpoints, told at its end. */

import type { DataWarning, UpdateData } from '../../data/index.js';
import type { Checkpoint } from '../checkpoint/checkpoints.js';
import type { TrainerCounters } from '../checkpoint/trainer-state.js';
import type { EndEvent, ScoreEvent, UpdateEvent, WarningEvent } from '../events.js';
import { RecordWarnings } from './record-warnings.js';
import type { ValidationLoss } from './validation.js';

/** The model after so many updates, as far as it was measured. */
export type Measured = Pick<Checkpoint, 'update'> &
  Partial<Pick<Checkpoint, 'validationLoss' | 'scores'>>;

export class Tally {
  private readonly warnings: RecordWarnings;
  private skipped = 0;
  private badRecords = 0;
  private loss: number | null = null;
  private validated: { readonly update: number; readonly loss: number } | null = null;
  private readonly scored = new Map<string, { readonly update: number; readonly score: number }>();

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

  addScore({ name, update, score }: ScoreEvent): void {
    this.scored.set(name, { update, score });
  }

  /** The scores of the model as it is after so many updates, by task. */
  scores(update: number): Readonly<Record<string, number>> {
    return this.scoresWhere((each) => each.update === update);
  }

  private scoresWhere(wanted: (each: { update: number }) => boolean): Record<string, number> {
    const found = [...this.scored].filter(([, each]) => wanted(each));
    return Object.fromEntries(found.map(([name, { score }]) => [name, score]));
  }

  get counters(): Pick<TrainerCounters, 'skipped' | 'badRecords' | 'warnings'> {
    const { skipped, badRecords, warnings } = this;
    return { skipped, badRecords, warnings: warnings.counts };
  }

  /** What was measured of the model of a checkpoint. */
  restoreMeasured({ update, validationLoss: loss = null, scores = {} }: Measured): void {
    if (loss !== null) this.validated = { update, loss };
    for (const [name, score] of Object.entries(scores)) this.scored.set(name, { update, score });
  }

  restore({ skipped, badRecords, warnings }: TrainerCounters): void {
    this.skipped = skipped;
    this.badRecords = badRecords;
    this.warnings.restore(warnings);
  }

  get end(): Omit<EndEvent, 'type' | 'reason' | 'update' | 'run' | 'checkpoint' | 'seconds'> {
    const scores = this.scoresWhere(() => true);
    const validationLoss = this.validated?.loss ?? null;
    return { ...this.counters, loss: this.loss, validationLoss, scores };
  }
}
