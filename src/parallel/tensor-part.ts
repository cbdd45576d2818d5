/** The part of a tensor that lies on one rank: what a checkpoint is written from, and read back into. */
import type { DType, Tensor } from '../torch/index.js';

/** Neighbouring elements of a tensor that ranks share out, or all of one that each of them has. */
export interface TensorPart {
  /** Of the whole tensor. */
  readonly name: string;
  /** Of the whole tensor. */
  readonly shape: readonly number[];
  /** First element of the whole, flattened. */
  readonly from: number;
  /** This rank's elements: flat, or the whole in its shape. */
  readonly tensor: Tensor;
  /** Type of the whole, where this rank keeps its elements in another. @default that of the tensor */
  readonly dtype?: DType | undefined;
  /** Whether this rank writes it: each element of the whole is written by exactly one rank. */
  readonly writes: boolean;
}

/** Tensors that every rank has as a whole; the ranks take turns at writing them. */
export function wholeParts(
  tensors: ReadonlyMap<string, Tensor>,
  { rank, size }: { readonly rank: number; readonly size: number },
): TensorPart[] {
  return [...tensors].map(([name, tensor], i) => {
    return { name, shape: tensor.shape, from: 0, tensor, writes: i % size === rank };
  });
}
