/** Table of vectors, looked up by index. */
import { type DType, embedding, type Tensor } from '../torch/index.js';
import { type Initializer, normal } from './initializers.js';
import { Module } from './module.js';

export interface EmbeddingOptions {
  /** Row that gets no gradient, as in transformers' decoders. @default none */
  paddingIndex?: number | undefined;
  /** @default 'float32' */
  dtype?: DType;
  /** How the vectors start. @default normal */
  initializer?: Initializer;
}

/** Parameter `weight` (count, size). */
export class Embedding extends Module {
  readonly paddingIndex: number | undefined;

  constructor(
    readonly count: number,
    readonly size: number,
    { paddingIndex, dtype = 'float32', initializer = normal }: EmbeddingOptions = {},
  ) {
    super();
    this.paddingIndex = paddingIndex;
    this.addParameter('weight', [count, size], dtype, initializer);
  }

  get weight(): Tensor {
    return this.parameter('weight');
  }

  /** indices (...) of int64 -> (..., size) */
  forward(indices: Tensor): Tensor {
    return embedding(this.weight, indices, this.paddingIndex);
  }
}
