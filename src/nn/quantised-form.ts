/** A form of fewer bits in which a frozen matrix is kept: the tensors that it is made of, and the weight that multiplies by them. */
import type { DType, Tensor } from '../torch/index.js';
import type { Weight } from './weight.js';

/** Shape and type of a part. */
export interface PartForm {
  readonly shape: readonly number[];
  readonly dtype: DType;
}

/** @typeParam Parts the tensors of one matrix, by what they are */
export interface QuantisedForm<Parts extends object = object> {
  /** As tables call the type of a matrix. */
  readonly dtype: 'nf4' | 'fp8';
  /** What follows a layer's name in that of each part. */
  readonly leaves: Readonly<Record<string, string>>;
  /** What is kept of a matrix of so many rows and columns. */
  shapes(shape: readonly number[]): ReadonlyMap<string, PartForm>;
  /** A matrix in this form, on its device. */
  quantise(weight: Tensor): Parts;
  /** Fills a tensor with what the parts stand for. */
  denseInto(parts: Parts, into: Tensor): void;
  /** @param parts gives the parameters of the module that owns them */
  weight(
    shape: readonly [number, number],
    dtype: DType,
    parts: () => Parts,
  ): Weight & { readonly form: QuantisedForm };
}

/** The name of the weight that a parameter belongs to: its own, but for the parts of one in few bits. */
export function weightName(parameter: string): string {
  return parameter.replace(/\.weight(\.(absmax|quant_map|nested_\w+)|_scale)$/, '.weight');
}
