/** What steps say that are too large or too small for the weights that they move. */

import { formatNumber } from '../../base/format.js';
import type { OddSteps } from '../watch/step-watch.js';
import type { Verdict } from './finding.js';

/** @param learningRate of that tensor */
export function oddSteps({ kind, tensor, ratio }: OddSteps, learningRate: number): Verdict {
  const moved = `updates move weights such as ${tensor} by ${formatNumber(100 * ratio, 2)} % of their norm each`;
  const evidence = [`their learning rate is ${formatNumber(learningRate, 3)}`];
  if (kind === 'large') {
    return {
      ...{ cause: 'learning-rate-too-high', confidence: 0.8, evidence },
      message: `${moved}: nothing lasts of what they had learnt (0.001 to 0.1 % is usual)`,
    };
  }
  return {
    ...{ cause: 'low-precision-weights', confidence: 0.7, evidence },
    message: `${moved}, less than fp32 resolves: they are rounded away, and nothing is learnt`,
  };
}
