/** Learning rates under which nothing is learnt, or less than a recipe says: known before the first update. */

import { plural } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import { courseOf, type RunPlan } from './run-plan.js';

export interface ScheduleWarning {
  readonly code:
    'nothing-learned' | 'warm-up-too-long' | 'final-ratio-unused' | 'zero-learning-rate';
  readonly message: string;
}

/** @param from updates that are done */
export function scheduleWarnings(
  plan: RunPlan,
  { optimizer }: Pick<Recipe, 'optimizer'>,
  from = 0,
): ScheduleWarning[] {
  const { planned, warmup, length, schedule } = plan;
  const warnings: ScheduleWarning[] = [];
  const course = courseOf(plan);
  let best = 0;
  for (let update = from; update < planned && best < 1; update++) {
    best = Math.max(best, course(update));
  }
  const why =
    warmup >= length
      ? `the warm-up takes ${count(warmup)}, and the run has ${planned}; shorten \`schedule.warmupUpdates\`, or train longer`
      : 'its course is over; change `schedule`';
  if (from < planned && best === 0) {
    const when = planned - from === 1 ? 'in the only update' : `in all ${count(planned - from)}`;
    const message = `the learning rate is 0 ${when}, so nothing is learned: ${why}`;
    warnings.push({ code: 'nothing-learned', message });
  } else if (from < planned && warmup >= length && best < 1) {
    const share = `${Number((100 * best).toPrecision(3))} %`;
    const message = `the learning rate comes to no more than ${share} of its peak: ${why}`;
    warnings.push({ code: 'warm-up-too-long', message });
  }
  if (schedule.decay === 'constant' && schedule.finalRatio > 0 && schedule.finalRatio < 1) {
    const message = `\`schedule.finalRatio\` ${schedule.finalRatio} is of no effect: with \`decay: constant\` the learning rate does not fall`;
    warnings.push({ code: 'final-ratio-unused', message });
  }
  for (const { parameters, learningRate } of optimizer.groups) {
    if (learningRate !== 0) continue;
    const message = `\`optimizer.groups\` gives ${parameters} a learning rate of 0: it does not learn`;
    warnings.push({ code: 'zero-learning-rate', message });
  }
  return warnings;
}

function count(updates: number): string {
  return plural(updates, 'update');
}
