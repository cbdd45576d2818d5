/** For tests: the stored models, inputs and answers of `test/fixtures/llava`. */
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

import { packageRoot } from '../base/native-path.js';
import { readSafetensors } from '../formats/safetensors/header.js';
import type { Tensor } from '../torch/index.js';
import { type Batch, makeBatch } from './batch.js';
import { placeTensors } from './load/place.js';
import { torchDType } from './load/stored-dtype.js';
import { unpadRows } from './padded.js';
import type { InputFacts } from './segment.js';

export const LLAVA_FIXTURES = join(packageRoot(), 'test', 'fixtures', 'llava');

/** Tensors of a safetensors file by their names. */
export async function readTensors(path: string): Promise<Map<string, Tensor>> {
  const { tensors } = await readSafetensors(path);
  const read = new Map<string, Tensor>();
  await placeTensors(
    tensors.map((stored) => ({ stored, dtype: torchDType(stored.dtype)! })),
    'cpu',
    (tensor, i) => read.set(tensors[i]!.name, tensor),
  );
  return read;
}

export interface LlavaFacts {
  supervised_tokens: number;
  loss: number;
  without_gradient: string[];
  bf16: { loss: number; logits_rms_error: number; gradient_relative_error: number };
}

export function readFacts(variant: string): LlavaFacts {
  return JSON.parse(
    readFileSync(join(LLAVA_FIXTURES, variant, 'facts.json'), 'utf8'),
  ) as LlavaFacts;
}

/** Micro-batch `index` of a file of inputs. */
export function storedBatch(inputs: Map<string, Tensor>, index: number, input: InputFacts): Batch {
  const stored = (name: string): Tensor => inputs.get(`${index}.${name}`)!;
  const rows = {
    inputIds: stored('input_ids'),
    attentionMask: stored('attention_mask'),
    labels: stored('labels'),
    pixelValues: stored('pixel_values'),
  };
  return makeBatch(unpadRows(rows, input), input);
}
