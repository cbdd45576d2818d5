/** What it says that no tensor gets a gradient any more, though there is something to learn. */

import { formatNumber } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import type { UpdateEvent } from '../../train/index.js';
import { TOO_HIGH, usualRate } from '../usual-rate.js';
import { GradientWatch } from '../watch/gradient-watch.js';
import type { Verdict } from './finding.js';

/** @param hiddenSize of the decoder, if it is known */
export function stopped(
  { loss, learningRate }: Pick<UpdateEvent, 'loss' | 'learningRate'>,
  recipe: Recipe,
  hiddenSize: number | undefined,
): Verdict {
  const facts = `no tensor has got a gradient but 0 in ${GradientWatch.UPDATES} updates, after some had, and the loss stays at ${formatNumber(loss!, 4)}`;
  const usual = hiddenSize === undefined ? undefined : usualRate(recipe, hiddenSize);
  if (usual === undefined || learningRate <= TOO_HIGH * usual.rate) {
    return { cause: 'no-gradient', confidence: 0.6, message: facts };
  }
  return {
    cause: 'learning-rate-too-high',
    confidence: 0.8,
    message: `${facts}: weights are so large that nothing of the loss moves with them`,
    evidence: [
      `the learning rate is ${formatNumber(learningRate, 3)}; models of this width are trained (${usual.trains}) at about ${formatNumber(usual.rate)}`,
    ],
  };
}
