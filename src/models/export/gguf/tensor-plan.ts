/** What the tensors of a GGUF file are made of: which of the model's, in which order of rows and which type. */
import type { GgmlTypeName, GgufShaped } from '../../../formats/gguf/types.js';
import { GGML_TYPES } from '../../../formats/gguf/types.js';
import type { StoredTensor } from '../../../formats/stored.js';
import type { Tensor } from '../../../torch/index.js';

/** A tensor to be written. */
export interface GgufPlan extends GgufShaped {
  /** Patina's own name and what it is read from, or values that follow from the configuration. */
  readonly from:
    { readonly own: string; readonly stored: StoredTensor } | { readonly values: Float32Array };
  /** Of a matrix whose rows ggml's rotary wants in pairs: how many heads they belong to. */
  readonly heads?: number | undefined;
}

/** The type of a matrix; rows that blocks do not fill are kept as fp16, as llama.cpp's own converter does. */
export function matrixType(type: GgmlTypeName, shape: readonly number[]): GgmlTypeName {
  return shape.at(-1)! % GGML_TYPES[type].block === 0 ? type : 'f16';
}

/**
 * Rows of queries or keys as the rotary of ggml's Llama takes them, which turns neighbours where transformers turns the halves of a head:
 * (heads · D, ...) with the halves of each head interleaved.
 */
export function interleaveHalves(rows: Tensor, heads: number): Tensor {
  const [total = 0, ...rest] = rows.shape;
  const split = rows.reshape([heads, 2, total / heads / 2, ...rest]);
  return split.transpose(1, 2).reshape(rows.shape);
}

/** The same back. */
export function separateHalves(rows: Tensor, heads: number): Tensor {
  const [total = 0, ...rest] = rows.shape;
  const split = rows.reshape([heads, total / heads / 2, 2, ...rest]);
  return split.transpose(1, 2).reshape(rows.shape);
}
