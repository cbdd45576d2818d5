/** What it says that no tensor gets a gradient any more, though there is something to learn. */

import { formatNumber } from '../../base/format.js';
import type { UpdateEvent } from '../../train/index.js';
import { highRate, type HighRate } from '../usual-rate.js';
import { GradientWatch } from '../watch/gradient-watch.js';
import type { Verdict } from './finding.js';

/** @param high a rate that is too high, if one is */
export function stopped({ loss }: Pick<UpdateEvent, 'loss'>, high: HighRate | null): Verdict {
  const facts = `no tensor has got a gradient but 0 in ${GradientWatch.UPDATES} updates, after some had, and the loss stays at ${formatNumber(loss!, 4)}`;
  if (high === null) return { cause: 'no-gradient', confidence: 0.6, message: facts };
  return {
    cause: 'learning-rate-too-high',
    confidence: 0.8,
    message: `${facts}: weights are so large that nothing of the loss moves with them`,
    evidence: [highRate(high)],
  };
}
