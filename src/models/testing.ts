/** For tests: the stored models of `test/fixtures/llava`, their inputs and answers, and the same weights in other layouts. */
import { mkdtempSync, readFileSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { packageRoot } from '../base/native-path.js';
import { nameTensors } from '../formats/layouts/name-tensors.js';
import { toStoredName } from '../formats/layouts/rename.js';
import { LAYOUTS, LLAVA_PREFIXES, type LayoutName } from '../formats/layouts/tables.js';
import { readSafetensors } from '../formats/safetensors/header.js';
import { writeSafetensors } from '../formats/safetensors/write.js';
import { readSpan } from '../formats/stored.js';
import { noGrad, scope, type Tensor } from '../torch/index.js';
import { type Batch, makeBatch } from './batch.js';
import { readTensorFile } from './load/tensor-file.js';
import type { Llava } from './llava.js';
import { unpadRows } from './padded.js';
import type { InputFacts } from './sample.js';
import type { SegmentedModel } from './segment.js';
import { finish } from './steps.js';
import { hasWork, RESIDENT, walk } from './walk.js';

/** A stored folder. */
export function fixture(variant: string, ...path: string[]): string {
  return join(packageRoot(), 'test', 'fixtures', 'llava', variant, ...path);
}

/** A JSON file of a stored folder. */
export function fixtureJson(variant: string, ...path: string[]): Record<string, unknown> {
  return JSON.parse(readFileSync(fixture(variant, ...path), 'utf8')) as Record<string, unknown>;
}

/** A stored micro-batch. */
export async function storedBatch(
  variant: string,
  index: number,
  input: InputFacts,
): Promise<Batch> {
  const inputs = await readTensorFile(fixture(variant, 'inputs.safetensors'));
  const stored = (name: string): Tensor => inputs.get(`${index}.${name}`)!;
  const rows = {
    inputIds: stored('input_ids'),
    attentionMask: stored('attention_mask'),
    labels: stored('labels'),
    pixelValues: stored('pixel_values'),
    imageSizes: inputs.get(`${index}.image_sizes`) ?? null,
  };
  const batch = makeBatch(unpadRows(rows, input), input);
  for (const tensor of inputs.values()) tensor.dispose();
  return batch;
}

/** Result of the last decoder block (1, T, C), with its graph. */
export function lastHidden(model: SegmentedModel, batch: Batch): Tensor {
  return scope(() => {
    const inputs = model.inputs(batch);
    let x: Tensor | null = null;
    const options = { phase: 'forward', residency: RESIDENT } as const;
    const steps = walk(model.segments, options, (segment) => {
      if (hasWork(segment, batch)) x = segment.forward(x, inputs);
    });
    finish(steps);
    return x!;
  });
}

/** Logits of every position. */
export function logitsOf(model: Llava, batch: Batch): Float32Array {
  return noGrad(() =>
    scope(() => {
      const logits = model.head.logits(lastHidden(model, batch).flatten(0, 1));
      return logits.toTypedArray() as Float32Array;
    }),
  );
}

/** Equality to the bit. */
export function sameNumbers(a: ArrayBufferView, b: ArrayBufferView): boolean {
  const bytes = (x: ArrayBufferView): Buffer => Buffer.from(x.buffer, x.byteOffset, x.byteLength);
  return bytes(a).equals(bytes(b));
}

/** An empty folder of its own. */
export function temporaryFolder(): string {
  return mkdtempSync(join(tmpdir(), 'patina-models-'));
}

export interface LayoutChange {
  /** Changes the names, by Patina's own ones, and the bytes that are written; undefined leaves a tensor out. */
  edit?: (tensor: WrittenTensor) => WrittenTensor | undefined;
  /** More tensors, by stored names. */
  add?: readonly WrittenTensor[];
  /** What replaces fields of the configuration. */
  config?: Record<string, unknown>;
}

/** A tensor that a test writes. */
export type WrittenTensor = Omit<Parameters<typeof writeSafetensors>[1][number], 'bytes'> & {
  bytes: Uint8Array;
};

/** Writes the weights of a stored model in a layout, with the configuration that belongs there; returns the folder. */
export async function writeLayout(
  variant: string,
  layoutName: LayoutName,
  { edit = (tensor) => tensor, add = [], config = {} }: LayoutChange = {},
): Promise<string> {
  const folder = temporaryFolder();
  const where = fixture(variant, 'hf', 'model.safetensors');
  const { tensors } = nameTensors((await readSafetensors(where)).tensors, { where });
  const written: WrittenTensor[] = [...add];
  for (const [name, stored] of tensors) {
    const other = toStoredName(LAYOUTS[layoutName], name, LLAVA_PREFIXES);
    if (other === undefined) continue;
    const { dtype, shape } = stored;
    const edited = edit({ name: other, dtype, shape, bytes: await readSpan(stored) });
    if (edited !== undefined) written.push(edited);
  }
  await writeSafetensors(
    join(folder, 'model.safetensors'),
    written.map(({ bytes, ...rest }) => ({ ...rest, bytes: () => bytes })),
  );
  const json = { ...configFor(variant, layoutName), ...config };
  writeFileSync(join(folder, 'config.json'), JSON.stringify(json));
  return folder;
}

function configFor(variant: string, layout: LayoutName): Record<string, unknown> {
  const hf = fixtureJson(variant, 'hf', 'config.json') as Record<string, Record<string, unknown>>;
  const [text, vision] = [hf['text_config']!, hf['vision_config']!];
  switch (layout) {
    case 'llama':
      return text;
    case 'clip':
    case 'clip-2026':
      return vision;
    case 'projector':
      return {
        model_type: 'projector',
        visual_hidden_size: vision['hidden_size'],
        llm_hidden_size: text['hidden_size'],
      };
    case 'official':
      return {
        ...text,
        model_type: 'llava_llama',
        mm_vision_tower: 'tower',
        mm_projector_type: 'mlp2x_gelu',
        mm_vision_select_layer: hf['vision_feature_layer'],
        mm_vision_select_feature:
          (hf['vision_feature_select_strategy'] as unknown) === 'full' ? 'cls_patch' : 'patch',
      };
    case 'hf':
    case 'hf-old':
    case 'hf-2025':
    case 'hf-2026':
    case 'xtuner':
      return hf;
  }
}
