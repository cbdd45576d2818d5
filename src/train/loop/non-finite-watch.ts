/** Ends a run whose gradient stays not finite. The optimizer leaves such updates out by itself; one or two of them are no harm. */

import { NonFiniteError } from '../../base/errors.js';
import type { UpdateEvent } from '../events.js';

/** Updates in a row after which a run ends. */
const LIMIT = 5;

export class NonFiniteWatch {
  private inRow = 0;

  /** @param minimumScale smallest scale of fp16's losses */
  constructor(private readonly minimumScale: number) {}

  /** @throws NonFiniteError `E_NON_FINITE` */
  add({ update, skipped, loss, lossScale }: UpdateEvent): void {
    this.inRow = skipped ? this.inRow + 1 : 0;
    if (this.inRow < LIMIT) return;
    // A scaled loss has to fall first: only at the smallest scale is the gradient itself at fault.
    if (lossScale !== null && lossScale > this.minimumScale) return;
    throw new NonFiniteError(
      `The gradient was not finite in ${this.inRow} updates in a row, the last of them update ${update} ` +
        `with a loss of ${loss ?? 'none'}. Weights are as they were before these updates.`,
      {
        code: 'E_NON_FINITE',
        hint: 'Lower the learning rate, train in bf16 or fp32, or look for a broken picture or weight in the records of these updates.',
      },
    );
  }
}
