/**
 * Prompts through a model to logits.
 *
 * B: rows, T: positions of a row, C: hidden size, N: positions asked for, V: vocabulary.
 */
import {
  type Batch,
  forward,
  IGNORED_LABEL,
  type LanguageModel,
  makeBatch,
  type Residency,
  type Sample,
  type SegmentedModel,
  type SegmentInputs,
  type Steps,
  walk,
} from '../models/index.js';
import { type Device, noGrad, scope, tensor, type Tensor } from '../torch/index.js';
import type { Prompt } from './prompt.js';

/** Prompts one after another on one axis, without labels. */
export function packPrompts(model: LanguageModel, prompts: readonly Prompt[]): Batch {
  const samples = prompts.map(({ inputIds, images = [] }): Sample => ({
    inputIds,
    labels: new Int32Array(inputIds.length).fill(IGNORED_LABEL),
    images,
  }));
  return makeBatch(samples, model.input, {
    device: model.decoder.embedTokens.weight.device,
  });
}

/** Which of the packed positions is the last of each sequence: (B). */
export function lastRows(lengths: readonly number[], device: Device): Tensor {
  let end = 0;
  const last = lengths.map((length) => (end += length) - 1);
  return tensor(last, { dtype: 'int64', device });
}

export interface LogitInputs extends SegmentInputs {
  /** Whose logits are asked for, among all positions of all rows; `null`: all of them. */
  readonly rows: Tensor | null;
}

/** Through the model and its head: (B, V). */
export function* logits(
  model: Pick<SegmentedModel, 'segments' | 'head'>,
  inputs: LogitInputs,
  residency: Residency,
): Steps<Tensor> {
  const { head } = model;
  const { rows } = inputs;
  using hiddenBTC = yield* forward(model, inputs, { residency });
  let logitsBV: Tensor;
  yield* walk([head], { phase: 'forward', residency }, () => {
    logitsBV = noGrad(() =>
      scope(() => {
        const hiddenNC = hiddenBTC.flatten(0, 1);
        return head.logits(rows === null ? hiddenNC : hiddenNC.indexSelect(0, rows));
      }),
    );
  });
  return logitsBV!;
}
