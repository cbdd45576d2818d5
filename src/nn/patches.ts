/** Convolution whose stride is its kernel, as vision transformers embed an image: each patch, flattened, times one matrix. */
import { convolution, type DType, linear, scope, type Tensor } from '../torch/index.js';
import { allZeros, type Initializer, normal } from './initializers.js';
import { Module } from './module.js';

/**
 * - `product`: the matrix product; it needs no convolution kernel, never rounds to TF32, and its gradients are deterministic on
 *   every device.
 * - `convolution`: libtorch's operator. On CPU its sums are those of other implementations to the bit; a tower above makes of the
 *   last bits here the largest part of the difference between two gradients.
 */
export type PatchKernel = 'product' | 'convolution';

export interface PatchConv2dOptions {
  /** Whether a bias is added. @default true */
  bias?: boolean;
  /** @default 'float32' */
  dtype?: DType;
  /** @default 'product' */
  kernel?: PatchKernel;
  /** How the weight starts. @default normal */
  initializer?: Initializer;
}

/** Parameters `weight` (outChannels, inChannels, patch, patch) and `bias` (outChannels), as of PyTorch's `Conv2d`. */
export class PatchConv2d extends Module {
  private readonly kernel: PatchKernel;

  constructor(
    readonly inChannels: number,
    readonly outChannels: number,
    readonly patch: number,
    {
      bias = true,
      dtype = 'float32',
      kernel = 'product',
      initializer = normal,
    }: PatchConv2dOptions = {},
  ) {
    super();
    this.kernel = kernel;
    this.addParameter('weight', [outChannels, inChannels, patch, patch], dtype, initializer);
    if (bias) this.addParameter('bias', [outChannels], dtype, allZeros);
  }

  get weight(): Tensor {
    return this.parameter('weight');
  }

  get bias(): Tensor | undefined {
    return this.optionalParameter('bias');
  }

  /** images (B, inChannels, height, width) -> (B, patches, outChannels), row by row; pixels beyond whole patches are cut. */
  forward(images: Tensor): Tensor {
    return scope(() => (this.kernel === 'product' ? this.product(images) : this.convolve(images)));
  }

  private product(images: Tensor): Tensor {
    const [B, C, height, width] = images.shape as [number, number, number, number];
    const P = this.patch;
    const rows = Math.floor(height / P);
    const columns = Math.floor(width / P);
    const patches = images
      .narrow(2, 0, rows * P)
      .narrow(3, 0, columns * P)
      .reshape([B, C, rows, P, columns, P])
      .permute([0, 2, 4, 1, 3, 5])
      .reshape([B, rows * columns, C * P * P]);
    return linear(patches, this.weight.view([this.outChannels, C * P * P]), this.bias);
  }

  private convolve(images: Tensor): Tensor {
    const { weight, bias = null, patch } = this;
    return convolution(images, weight, bias, [patch, patch], [0, 0], [1, 1], false, [0, 0], 1)
      .flatten(2)
      .transpose(1, 2);
  }
}
