/** What memory an update of a run should take, by a ghost run of its own model and records: shown beside what was measured. */

import { UsageError } from '../base/errors.js';
import { Llava, TextModel, type LanguageModel } from '../models/index.js';
import type { PlannedFor, Prediction } from '../train/index.js';
import { cardOf, isExpandable } from './devices/cards.js';
import { ghostRun } from './ghost-run.js';
import { limitOf } from './plan.js';
import { replay, withinLimit } from './replay.js';
import type { ModelConfig } from './shape-model.js';
import { TensorCount } from './tensor-count.js';

/** `predict` of the options of `train`. */
export async function predict(run: PlannedFor): Promise<Prediction> {
  const { recipe, model, device, precision, ranks, batches, between } = run;
  const card = cardOf(device);
  const described = { recipe, model: configOf(model), card, precision, ranks, batches, between };
  if (device.device === 'cpu') {
    // Whether a checkpoint is still being written in the next update is left to chance, and counts here as what a device has.
    const alone = between && { ...between, copiesLast: false };
    const { lines } = await ghostRun({ ...described, between: alone, kernels: 'cpu' });
    const count = new TensorCount();
    count.take(lines);
    return { allocated: count.peak, reserved: count.peak, atPeak: {} };
  }
  const { lines, known } = await ghostRun(described);
  const options = { card, expandable: isExpandable(process.env) };
  const limit = limitOf(recipe, card);
  const free = replay(lines, known, options);
  return withinLimit(free, limit, () => replay(lines, known, { ...options, limit }));
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
