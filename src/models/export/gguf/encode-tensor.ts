/** A tensor on its way into a GGUF file: read, adapter folded in, rows put in ggml's order, rounded to its type. */
import type { GgufSource } from '../../../formats/gguf/write.js';
import {
  type DType,
  noGrad,
  scope,
  tensor as fromNumbers,
  type Tensor,
} from '../../../torch/index.js';
import { FiniteCheck } from '../../load/finite-check.js';
import { bytePieces } from '../../load/tensor-file.js';
import { finishedTensor, type StreamOptions } from '../stream-weights.js';
import { blockPieces, isBlockType } from './blocks.js';
import { type GgufPlan, interleaveHalves } from './tensor-plan.js';

export type EncodeOptions = Pick<StreamOptions, 'where' | 'adapters' | 'allow' | 'signal'>;

/** The type of the values that a file holds, or quantises. */
export const VALUE_TYPES: Readonly<Record<GgufPlan['type'], DType>> = {
  f32: 'float32',
  f16: 'float16',
  bf16: 'bfloat16',
  q8_0: 'float32',
  q4_0: 'float32',
};

/** The tensor as the writer takes it. */
export function ggufSource(plan: GgufPlan, options: EncodeOptions): GgufSource {
  const { name, type, shape } = plan;
  return { name, type, shape, bytes: () => encoded(plan, options) };
}

async function* encoded(plan: GgufPlan, options: EncodeOptions): AsyncGenerator<Uint8Array> {
  const { type, heads } = plan;
  const read = await valuesOf(plan, options);
  let values = read;
  try {
    if (heads !== undefined) {
      values = noGrad(() => scope(() => interleaveHalves(read, heads).keep()));
    }
    if (isBlockType(type)) yield* blockPieces(values, type);
    else yield* bytePieces(values, { signal: options.signal });
  } finally {
    read.dispose();
    if (values !== read) values.dispose();
  }
}

/**
 * The values in the model's own order, which belong to the caller.
 *
 * @throws DataError `E_NON_FINITE_WEIGHTS`
 */
export async function valuesOf(
  { from, type, shape }: Pick<GgufPlan, 'from' | 'type' | 'shape'>,
  { where, adapters, allow, signal }: EncodeOptions,
): Promise<Tensor> {
  const dtype = VALUE_TYPES[type];
  if ('values' in from) {
    return scope(() => fromNumbers(from.values).view(shape).to(dtype).keep());
  }
  const { own, stored } = from;
  const values = await finishedTensor(own, stored, { adapters, dtype, signal });
  const finite = new FiniteCheck();
  try {
    finite.add(own, values);
    finite.check(where, allow);
    return values;
  } catch (error) {
    values.dispose();
    throw error;
  } finally {
    finite.dispose();
  }
}
