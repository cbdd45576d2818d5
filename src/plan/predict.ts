/** What an update of a run should take, by a ghost run of its own model and records: shown beside what was measured. */

import { UsageError } from '../base/errors.js';
import { Llava, TextModel, type LanguageModel } from '../models/index.js';
import type { PlannedFor, Prediction } from '../train/index.js';
import { asRank, cardOf, isExpandable } from './devices/cards.js';
import { ghostRun } from './ghost-run.js';
import { limitOf } from './plan.js';
import { replay, withinLimit } from './replay.js';
import type { ModelConfig } from './shape-model.js';
import { TensorCount } from './tensor-count.js';
import { typicalTime, type UpdateTime } from './update-time.js';

export interface TimedPrediction extends Prediction {
  /** Of a typical update; `null` where none was asked for, and on the CPU. */
  readonly time: UpdateTime | null;
}

/** By the table of cards alone. */
export async function predict(run: PlannedFor): Promise<TimedPrediction> {
  const { recipe, model, device, precision, ranks, batches, between, typical } = run;
  const card = asRank(cardOf(device), ranks);
  const alike = { recipe, model: configOf(model), card, precision, ranks };
  if (device.device === 'cpu') {
    // Whether a checkpoint is still being written in the next update is left to chance, and counts here as what a device has.
    const alone = between && { ...between, copiesLast: false };
    const { lines } = await ghostRun({ ...alike, batches, between: alone, kernels: 'cpu' });
    const count = new TensorCount();
    count.take(lines);
    return { allocated: count.peak, reserved: count.peak, atPeak: {}, time: null };
  }
  const { lines, known } = await ghostRun({ ...alike, batches, between });
  const options = { card, expandable: isExpandable(process.env) };
  const limit = limitOf(recipe, card);
  const free = replay(lines, known, options);
  const { allocated, reserved, atPeak } = withinLimit(free, limit, () =>
    replay(lines, known, { ...options, limit }),
  );
  const time = typical === undefined ? null : await typicalTime(typical, alike);
  return {
    ...{ allocated, reserved, atPeak, time, total: reserved + card.context },
    ...(time !== null && { seconds: time.seconds }),
  };
}

/** The model as it was opened. */
function configOf(model: LanguageModel): ModelConfig {
  if (model instanceof Llava) return { kind: 'llava', config: model.config };
  if (model instanceof TextModel) return { kind: 'text', config: model.config };
  throw new UsageError('a model of this kind cannot be planned for', {
    code: 'E_PLAN_MODEL',
    hint: 'Plan for a LLaVA or a decoder alone.',
  });
}
