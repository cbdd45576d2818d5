/** What memory an update of a run should take, by a ghost run of its own model and records: shown beside what was measured. */

import { UsageError } from '../base/errors.js';
import { Llava, TextModel, type LanguageModel } from '../models/index.js';
import { memoryStats, resetPeak } from '../torch/index.js';
import type { PlannedFor, Prediction } from '../train/index.js';
import { cardOf, isExpandable } from './devices/cards.js';
import { ghostRun } from './ghost-run.js';
import { limitOf } from './plan.js';
import { replay, withinLimit } from './replay.js';
import type { ModelConfig } from './shape-model.js';

/** `predict` of the options of `train`. */
export async function predict(run: PlannedFor): Promise<Prediction> {
  const { recipe, model, device, precision, ranks, batches } = run;
  const card = cardOf(device);
  const described = { recipe, model: configOf(model), card, precision, ranks, batches };
  if (device.device === 'cpu') return onCpu(() => ghostRun({ ...described, kernels: 'cpu' }));
  const { lines, known } = await ghostRun(described);
  const options = { card, expandable: isExpandable(process.env) };
  const limit = limitOf(recipe, card);
  const free = replay(lines, known, options);
  return withinLimit(free, limit, () => replay(lines, known, { ...options, limit }));
}

/** The CPU's allocator counts tensors, as that of the ghosts does, and keeps no blocks. */
async function onCpu(ghost: () => Promise<unknown>): Promise<Prediction> {
  const before = memoryStats('meta').allocated;
  resetPeak('meta');
  await ghost();
  const allocated = memoryStats('meta').peakAllocated - before;
  return { allocated, reserved: allocated, atPeak: {} };
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
