/** Normalisation over the last dimension: RMSNorm (Zhang and Sennrich 2019) and LayerNorm (Ba et al. 2016). */
import { _fusedRmsNorm, type DType, nativeLayerNorm, type Tensor } from '../torch/index.js';
import { allOnes, allZeros } from './initializers.js';
import { Module } from './module.js';

export interface NormOptions {
  /** Added to the mean square or variance. @default 1e-5 */
  eps?: number;
  /** @default 'float32' */
  dtype?: DType;
}

/** `y = x / √(mean(x²) + eps) · weight`, computed in fp32; parameter `weight` (size). */
export class RMSNorm extends Module {
  readonly eps: number;

  constructor(
    readonly size: number,
    { eps = 1e-5, dtype = 'float32' }: NormOptions = {},
  ) {
    super();
    this.eps = eps;
    this.addParameter('weight', [size], dtype, allOnes);
  }

  get weight(): Tensor {
    return this.parameter('weight');
  }

  /** x (..., size) -> (..., size) */
  forward(x: Tensor): Tensor {
    return _fusedRmsNorm(x, [this.size], this.weight, this.eps)[0];
  }
}

/** `y = (x - mean(x)) / √(var(x) + eps) · weight + bias`; parameters `weight` and `bias` (size). */
export class LayerNorm extends Module {
  readonly eps: number;

  constructor(
    readonly size: number,
    { eps = 1e-5, dtype = 'float32' }: NormOptions = {},
  ) {
    super();
    this.eps = eps;
    this.addParameter('weight', [size], dtype, allOnes);
    this.addParameter('bias', [size], dtype, allZeros);
  }

  get weight(): Tensor {
    return this.parameter('weight');
  }

  get bias(): Tensor {
    return this.parameter('bias');
  }

  /** x (..., size) -> (..., size) */
  forward(x: Tensor): Tensor {
    return nativeLayerNorm(x, [this.size], this.weight, this.bias, this.eps)[0];
  }
}
