/** What the course of a run says, without a look at an update: whether its loss has risen where it should not, and why. */

import { formatNumber } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import { highRate, type HighRate } from '../usual-rate.js';
import type { Left, Trend } from '../watch/course.js';
import type { Verdict } from './finding.js';

interface Risen {
  readonly trend: Trend | null;
  readonly recipe: Pick<Recipe, 'optimizer'>;
  readonly learningRate: number;
  /** Median of how far updates move weights, `||w' - w|| / ||w||`. @default nobody looked */
  readonly step?: number | null;
}

export function risen({ trend, recipe, learningRate, step = null }: Risen): Verdict | null {
  if (trend === null) return null;
  const { best, worst, outlier, ordinaryNorm, laterNorm, uniform } = trend;
  const course = `the loss was ${formatNumber(best.loss, 4)} at update ${best.update} and rose to ${formatNumber(worst.loss, 4)} at update ${worst.update} (to know nothing is ${formatNumber(uniform, 4)})`;
  const norms = `the norm of the gradient was ${formatNumber(ordinaryNorm, 3)} before and ${formatNumber(laterNorm, 3)} after`;
  const steps =
    step === null
      ? []
      : [`an update moved weights by ${formatNumber(100 * step, 2)} % of their norm (median)`];
  const rose = worst.loss > 1.5 * best.loss && worst.loss > best.loss + 0.5;
  const grew = laterNorm > 3 * ordinaryNorm || worst.loss > 1.25 * uniform;
  if (!rose || !grew) return null;
  if (recipe.optimizer.clipNorm === null && outlier !== null && outlier.update <= worst.update) {
    return {
      cause: 'no-clipping',
      confidence: 0.7,
      message: `nothing clips the gradient, and its norm was ${formatNumber(outlier.norm / ordinaryNorm)} times the ordinary one at update ${outlier.update}, before the loss rose`,
      evidence: [course, norms, ...steps],
    };
  }
  return {
    cause: 'learning-rate-too-high',
    confidence: 0.8,
    message: `the loss rises ${worst.loss > 1.25 * uniform ? 'above that of knowing nothing' : 'and gradients grow'} at a learning rate of ${formatNumber(learningRate, 3)}`,
    evidence: [course, norms, ...steps],
  };
}

/** What it says that the loss has left where it began for good. */
export function left({ began, now }: Left, high: HighRate): Verdict {
  return {
    cause: 'learning-rate-too-high',
    confidence: 0.7,
    message: `the loss began at ${formatNumber(began, 4)}, left it, and has stayed far above it: ${formatNumber(now, 4)} in the last updates`,
    evidence: [highRate(high)],
  };
}
