/**
 * What LLaVA-NeXT (Liu et al. 2024) adds to the projector: a learned vector that ends each row of features of a picture in tiles.
 * Parameter `image_newline`, as transformers names it.
 *
 * I: views of all pictures, N: features of one view, M: image tokens, C: the decoder's hidden size.
 */
import { type BuildOptions, Module, normalOf } from '../nn/index.js';
import { cat, type Tensor } from '../torch/index.js';

export class ImageNewline extends Module {
  constructor(hiddenSize: number, { dtype = 'float32' }: Pick<BuildOptions, 'dtype'> = {}) {
    super();
    this.addParameter('image_newline', [hiddenSize], dtype, normalOf(hiddenSize ** -0.5));
  }

  /**
   * The features of tokens, in their order: (I, N, C) -> (1, M, C).
   *
   * @param arrangement places among the I · N features; I · N is the newline (M), int64
   */
  arrange(featuresINC: Tensor, arrangement: Tensor): Tensor {
    const newline = this.parameter('image_newline').to(featuresINC.dtype).unsqueeze(0);
    return cat([featuresINC.flatten(0, 1), newline])
      .indexSelect(0, arrangement)
      .unsqueeze(0);
  }
}
