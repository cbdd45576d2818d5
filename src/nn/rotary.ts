/**
 * Rotary position embedding (Su et al. 2021) in the half-split form of Llama, with its frequencies plain, scaled linearly, or
 * scaled as in Llama 3.1.
 *
 * `rotate(x) = x · cos(p f) + (-x₂, x₁) · sin(p f)` for position p, halves x₁ and x₂ of a head, frequencies f.
 * Frequencies and angles are fp32, rounded operation by operation as transformers rounds them.
 */
import { arange, cat, type DType, full, scope, tensor, type Tensor } from '../torch/index.js';
import { Module } from './module.js';

/** How the frequencies of a longer context are made from the plain ones. */
export type RotaryScaling =
  | { type: 'default' }
  /** All frequencies divided by the factor. */
  | { type: 'linear'; factor: number }
  /** Llama 3.1: waves longer than original / low are divided by the factor, shorter than original / high kept. */
  | {
      type: 'llama3';
      factor: number;
      lowFreqFactor: number;
      highFreqFactor: number;
      originalMaxPositionEmbeddings: number;
    };

export interface RotaryOptions {
  /** Base of the frequencies. @default 10000 */
  theta?: number;
  /** @default { type: 'default' } */
  scaling?: RotaryScaling;
}

/** Cosines and sines of a batch's positions, (B, T, 1, D) each, or (T, 1, D) where all rows share their positions. */
export interface Rotation {
  cos: Tensor;
  sin: Tensor;
}

/** Buffer `inv_freq` (headDim / 2), fp32. */
export class RotaryEmbedding extends Module {
  constructor(
    readonly headDim: number,
    { theta = 10000, scaling = { type: 'default' } }: RotaryOptions = {},
  ) {
    super();
    const frequencies = inverseFrequencies(headDim, theta, scaling);
    this.addBuffer('inv_freq', (device) => tensor(frequencies, { device }));
  }

  /** positions (B, T) or (T), int64 -> the rotation of each, in `dtype`. */
  forward(positions: Tensor, dtype: DType): Rotation {
    return scope(() => {
      const angles = positions.to('float32').unsqueeze(-1).mul(this.buffer('inv_freq'));
      const both = cat([angles, angles], -1).unsqueeze(-2);
      return { cos: both.cos().to(dtype), sin: both.sin().to(dtype) };
    });
  }
}

/** Turns queries or keys x (B, T, H, D) by their positions. */
export function rotate(x: Tensor, { cos, sin }: Rotation): Tensor {
  const half = x.shape[x.shape.length - 1]! / 2;
  return scope(() => {
    const turned = cat([x.narrow(-1, half, half).neg(), x.narrow(-1, 0, half)], -1);
    return x.mul(cos).add(turned.mul(sin));
  });
}

function inverseFrequencies(headDim: number, theta: number, scaling: RotaryScaling): Float32Array {
  const powers = scope(() => {
    const exponents = arange(0, headDim, 2, { dtype: 'float32' }).div(headDim);
    return full(exponents.shape, theta, { dtype: 'float32' })
      .pow(exponents)
      .toTypedArray() as Float32Array;
  });
  return powers.map((power) => scaled(Math.fround(1 / power), scaling));
}

function scaled(frequency: number, scaling: RotaryScaling): number {
  switch (scaling.type) {
    case 'default':
      return frequency;
    case 'linear':
      return frequency / scaling.factor;
    case 'llama3': {
      const f = Math.fround;
      const { factor, lowFreqFactor: low, highFreqFactor: high } = scaling;
      const original = scaling.originalMaxPositionEmbeddings;
      const wavelength = f(f(1 / frequency) * f(2 * Math.PI));
      if (wavelength > original / low) return frequency / factor;
      if (wavelength < original / high) return frequency;
      const smooth = f(f(f(f(1 / wavelength) * original) - low) / (high - low));
      return f(f(f(1 - smooth) * frequency) / factor) + f(smooth * frequency);
    }
  }
}
