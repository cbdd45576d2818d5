/** The mean loss of the supervised tokens of validation data. */

import type { Batch, SegmentedModel } from '../../models/index.js';
import { full, noGrad, scope, type Device, type Holding } from '../../torch/index.js';
import { drive } from '../step/drive.js';
import { evaluate } from './evaluate.js';

export interface ValidationLoss {
  /** NaN where no token was supervised. */
  readonly loss: number;
  readonly supervised: number;
}

/** @param parts batches on the device, freed after their use */
export async function validationLoss(
  model: SegmentedModel,
  parts: AsyncIterable<Holding<readonly Batch[]>>,
  { device, chunk }: { device: Device; chunk: number },
): Promise<ValidationLoss> {
  const sum = full([], 0, { dtype: 'float32', device }).keep();
  let supervised = 0;
  try {
    for await (const part of parts) {
      using batches = part;
      for (const batch of batches.value) {
        const losses = await drive(evaluate(model, batch, chunk));
        noGrad(() => scope(() => sum.add_(losses.sum(null))));
        losses.dispose();
        supervised += batch.counts.supervised;
      }
    }
    return { loss: sum.item() / supervised, supervised };
  } finally {
    sum.dispose();
  }
}
