/** A folder that a reference has written about a LLaVA: its inputs, and the answers that there are. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { z } from 'zod';

import { DataError } from '../src/base/errors.js';
import { errorCode } from '../src/base/system-error.js';
import {
  type Batch,
  type InputFacts,
  makeBatch,
  readTensorFile,
  unpadRows,
} from '../src/models/index.js';
import type { Device, Tensor } from '../src/torch/index.js';

const factsShape = z.object({
  loss: z.number().optional(),
  without_gradient: z.array(z.string()).optional(),
  bf16: z
    .object({
      loss: z.number(),
      logits_max_error: z.number(),
      logits_rms_error: z.number(),
      gradient_relative_error: z.number(),
    })
    .optional(),
  trajectories: z
    .object({
      settings: z.object({ accumulate: z.number().int().positive().default(2) }).prefault({}),
      runs: z.record(z.string(), z.object({ losses: z.array(z.number()).optional() })).default({}),
    })
    .optional(),
});

export type LlavaFacts = z.infer<typeof factsShape>;

/** Owns its tensors. */
export interface LlavaFolder extends Disposable {
  readonly path: string;
  /** By `<micro-batch>.<name>`. */
  readonly inputs: ReadonlyMap<string, Tensor>;
  /** Empty where the file is absent. */
  readonly outputs: ReadonlyMap<string, Tensor>;
  readonly gradients: ReadonlyMap<string, Tensor>;
  readonly facts: LlavaFacts;
  /** Answers that are not there. */
  readonly absent: readonly string[];
}

/** @throws DataError `E_PARITY_FILES` for inputs or facts that are not of the expected shape */
export async function readLlavaFolder(path: string): Promise<LlavaFolder> {
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
  const inputs = await readTensorFile(join(path, 'inputs.safetensors'));
  for (const name of ['input_ids', 'attention_mask', 'labels']) {
    if (inputs.has(`0.${name}`)) continue;
    throw unexpected(join(path, 'inputs.safetensors'), `there is no "0.${name}"`);
  }
  const outputs = await optional('outputs.safetensors');
  const gradients = await optional('gradients.safetensors');
  const facts = await readFacts(join(path, 'facts.json'), absent);
  return {
    ...{ path, inputs, outputs, gradients, facts, absent },
    [Symbol.dispose]: () => {
      for (const tensors of [inputs, outputs, gradients]) disposeAll(tensors);
    },
  };
}

export function disposeAll(tensors: ReadonlyMap<string, Tensor>): void {
  for (const tensor of tensors.values()) tensor.dispose();
}

/** One micro-batch as a model takes it; image tokens become those of the model. */
export function batchOf(
  { inputs }: LlavaFolder,
  index: number,
  input: InputFacts,
  device: Device,
): Batch {
  const stored = (name: string): Tensor => inputs.get(`${index}.${name}`)!;
  const rows = {
    inputIds: stored('input_ids'),
    attentionMask: stored('attention_mask'),
    labels: stored('labels'),
    pixelValues: inputs.get(`${index}.pixel_values`) ?? null,
  };
  return makeBatch(unpadRows(rows, input), input, { device });
}

async function readFacts(file: string, absent: string[]): Promise<LlavaFacts> {
  let content: unknown;
  try {
    content = JSON.parse(await readFile(file, 'utf8'));
  } catch (cause) {
    if (errorCode(cause) !== 'ENOENT') throw unexpected(file, 'it is no JSON', cause);
    absent.push('facts.json');
    return {};
  }
  const parsed = factsShape.safeParse(content);
  if (!parsed.success) throw unexpected(file, z.prettifyError(parsed.error));
  return parsed.data;
}

function unexpected(file: string, reason: string, cause?: unknown): DataError {
  return new DataError(`${file}: ${reason}.`, {
    code: 'E_PARITY_FILES',
    hint: 'Name a folder of the shape of test/fixtures/llava/llama3.',
    cause,
  });
}
