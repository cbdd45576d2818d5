/** The loss of a batch without any gradient: the segments forward, no dropout, nothing kept. */

import type { Batch, SegmentedModel } from '../../models/index.js';
import { hold, noGrad, scope, type Tensor } from '../../torch/index.js';
import type { Steps } from '../step/step.js';

/** @returns the losses of the supervised tokens (L), fp32; the caller owns them. Yields after each segment. */
export function* evaluate(model: SegmentedModel, batch: Batch, chunk?: number): Steps<Tensor> {
  using inputs = hold(() => noGrad(() => model.inputs(batch)));
  let boundary: Tensor | null = null;
  try {
    for (const segment of model.segments) {
      if (segment.visual && batch.images === null) continue;
      const before: Tensor | null = boundary;
      boundary = noGrad(() => scope(() => segment.forward(before, inputs.value)));
      before?.dispose();
      yield;
    }
    const last = boundary!;
    return noGrad(() =>
      scope(() => {
        const options = chunk === undefined ? {} : { chunk };
        return model.head.losses(last, batch.supervised, options).losses;
      }),
    );
  } finally {
    boundary?.dispose();
  }
}
