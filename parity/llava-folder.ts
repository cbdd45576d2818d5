/** A folder that a reference has written about a LLaVA: its inputs, and the answers that there are. */
import { join } from 'node:path';

import { z } from 'zod';

import { DataError } from '../src/base/errors.js';
import {
  type Batch,
  type InputFacts,
  makeBatch,
  readTensorFile,
  type Sample,
  unpadRows,
} from '../src/models/index.js';
import type { Device, Tensor } from '../src/torch/index.js';
import { maybe, readFacts, unexpectedFile } from './facts.js';

const factsShape = z.object({
  loss: maybe(z.number()),
  without_gradient: maybe(z.array(z.string())),
  bf16: maybe(
    z.object({
      loss: maybe(z.number()),
      logits_max_error: maybe(z.number()),
      logits_rms_error: maybe(z.number()),
      gradient_relative_error: maybe(z.number()),
    }),
  ),
  trajectories: maybe(
    z.object({
      settings: maybe(z.object({ accumulate: maybe(z.number().int().positive()) })),
      runs: maybe(z.record(z.string(), z.object({ losses: maybe(z.array(z.number())) }))),
    }),
  ),
});

export type LlavaFacts = Partial<z.infer<typeof factsShape>>;

/** Owns its tensors. */
export interface LlavaFolder extends Disposable {
  readonly path: string;
  /** By `<micro-batch>.<name>`. */
  readonly inputs: ReadonlyMap<string, Tensor>;
}

/** Owns its tensors. */
export interface LlavaAnswers extends Disposable {
  /** Empty where the file is absent. */
  readonly outputs: ReadonlyMap<string, Tensor>;
  readonly gradients: ReadonlyMap<string, Tensor>;
  readonly facts: LlavaFacts;
  /** Answers that are not there. */
  readonly absent: readonly string[];
}

/** @throws DataError `E_PARITY_FILES` for inputs that are not of the expected shape */
export async function readLlavaFolder(path: string): Promise<LlavaFolder> {
  const inputs = await readTensorFile(join(path, 'inputs.safetensors'));
  for (const name of ['input_ids', 'attention_mask', 'labels']) {
    if (inputs.has(`0.${name}`)) continue;
    throw unexpectedFile(join(path, 'inputs.safetensors'), `there is no "0.${name}"`);
  }
  return { path, inputs, [Symbol.dispose]: () => disposeAll(inputs) };
}

/** What the reference computed, as far as it is there. @throws DataError `E_PARITY_FILES` for facts of another shape */
export async function readLlavaAnswers(path: string): Promise<LlavaAnswers> {
  const absent: string[] = [];
  const optional = async (name: string): Promise<Map<string, Tensor>> => {
    try {
      return await readTensorFile(join(path, name));
    } catch (error) {
      if (!(error instanceof DataError) || error.code !== 'E_FILE_MISSING') throw error;
      absent.push(name);
      return new Map();
    }
  };
  const outputs = await optional('outputs.safetensors');
  const gradients = await optional('gradients.safetensors');
  const facts = await readFacts(path, factsShape);
  if (facts === undefined) absent.push('facts.json');
  else {
    const names = ['loss', 'without_gradient', 'bf16', 'trajectories'] as const;
    for (const name of names) if (facts[name] === undefined) absent.push(`facts.json: ${name}`);
  }
  const dispose = (): void => {
    disposeAll(outputs);
    disposeAll(gradients);
  };
  return { outputs, gradients, facts: facts ?? {}, absent, [Symbol.dispose]: dispose };
}

export function microBatchCount({ inputs }: LlavaFolder): number {
  return [...inputs.keys()].filter((name) => name.endsWith('.input_ids')).length;
}

export function disposeAll(tensors: ReadonlyMap<string, Tensor>): void {
  for (const tensor of tensors.values()) tensor.dispose();
}

/** One micro-batch as a model takes it; image tokens become those of the model. */
export function batchOf(
  folder: LlavaFolder,
  index: number,
  input: InputFacts,
  device: Device,
): Batch {
  return makeBatch(samplesOf(folder, index, input), input, { device });
}

/** The records of a micro-batch. */
export function samplesOf({ inputs }: LlavaFolder, index: number, input: InputFacts): Sample[] {
  const stored = (name: string): Tensor => inputs.get(`${index}.${name}`)!;
  const rows = {
    inputIds: stored('input_ids'),
    attentionMask: stored('attention_mask'),
    labels: stored('labels'),
    pixelValues: inputs.get(`${index}.pixel_values`) ?? null,
    imageSizes: inputs.get(`${index}.image_sizes`) ?? null,
    batchNumImages: inputs.get(`${index}.batch_num_images`) ?? null,
  };
  return unpadRows(rows, input);
}
