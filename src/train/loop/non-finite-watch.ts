/** Ends a run whose gradient stays not finite. The optimizer leaves such updates out by itself; one or two of them are no harm. */

import { NonFiniteError } from '../../base/errors.js';
import type { DiagnosisEvent, UpdateEvent } from '../events.js';

/** Updates in a row after which a run ends. */
const LIMIT = 5;
/** Segments that are named one by one. */
const NAMED = 6;

export class NonFiniteWatch {
  private inRow = 0;
  /** Segments that were left out of the updates in this row, where each has a gate of its own. */
  private readonly segments = new Set<string>();
  private applied = false;
  private diagnosis: Pick<DiagnosisEvent, 'cause' | 'message' | 'fix'> | null = null;

  /** @param minimumScale smallest scale of fp16's losses */
  constructor(private readonly minimumScale: number) {}

  /**
   * @param diagnosis of the update, where there is one
   * @throws NonFiniteError `E_NON_FINITE`
   */
  add(
    { update, skipped, skippedSegments, loss, lossScale }: UpdateEvent,
    diagnosis?: Pick<DiagnosisEvent, 'cause' | 'message' | 'fix'> | null,
  ): void {
    if (!skipped) {
      this.inRow = 0;
      this.diagnosis = null;
      this.applied = false;
      this.segments.clear();
      return;
    }
    this.inRow++;
    this.diagnosis = diagnosis ?? this.diagnosis;
    this.applied ||= skippedSegments !== null;
    for (const name of skippedSegments ?? []) this.segments.add(name);
    if (this.inRow < LIMIT) return;
    // A scaled loss has to fall first: only at the smallest scale is the gradient itself at fault.
    if (lossScale !== null && lossScale > this.minimumScale) return;
    throw new NonFiniteError(
      `The gradient was not finite in ${this.inRow} updates in a row, the last of them update ${update} ` +
        `with a loss of ${loss ?? 'none'}. ${this.weights()}${this.found()}`,
      {
        code: 'E_NON_FINITE',
        hint:
          this.diagnosis?.fix ??
          'Lower the learning rate, train in bf16 or fp32, or look for a broken picture or weight in the records of these updates.',
      },
    );
  }

  private found(): string {
    const { diagnosis } = this;
    return diagnosis === null ? '' : ` ${diagnosis.cause}: ${diagnosis.message}`;
  }

  /** What became of the weights. */
  private weights(): string {
    if (!this.applied) return 'Weights are as they were before these updates.';
    const names = [...this.segments];
    const more = names.length > NAMED ? ` and ${names.length - NAMED} more` : '';
    return (
      'With optimizer.updateInBackward each segment is applied on its own: left out were those of ' +
      `${names.slice(0, NAMED).join(', ')}${more}; the others were applied, so weights are not as they were before these updates.`
    );
  }
}
