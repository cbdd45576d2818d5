/**
 * What LLaVA-NeXT (Liu et al. 2024) adds to the projector: a learned vector that ends each row of features of a picture in tiles. Of a
 * LLaVA-OneVision (Li et al. 2024) the features of many tiles are interpolated first, as `torch.nn.functional.interpolate` does it.
 * Parameter `image_newline`, as transformers names it.
 *
 * I: views of all pictures, N: features of one view, M: image tokens, C: the decoder's hidden size.
 */
import { type BuildOptions, Module, normalOf } from '../nn/index.js';
import { cat, type Tensor } from '../torch/index.js';
import type { Interpolation } from './arrange.js';

/** An interpolation whose features are told on the device (rows · columns), int64. */
export type PlacedInterpolation = Omit<Interpolation, 'features'> & { readonly features: Tensor };

/** An arrangement on the device: places of tokens (M), int64. */
export interface PlacedArrangement {
  readonly tokens: Tensor;
  readonly interpolations: readonly PlacedInterpolation[];
}

export class ImageNewline extends Module {
  constructor(hiddenSize: number, { dtype = 'float32' }: Pick<BuildOptions, 'dtype'> = {}) {
    super();
    this.addParameter('image_newline', [hiddenSize], dtype, normalOf(hiddenSize ** -0.5));
  }

  /** The features of tokens, in their order: (I, N, C) -> (1, M, C). */
  arrange(featuresINC: Tensor, { tokens, interpolations }: PlacedArrangement): Tensor {
    const newline = this.parameter('image_newline').to(featuresINC.dtype).unsqueeze(0);
    const features = featuresINC.flatten(0, 1);
    return cat([features, ...interpolations.map((each) => interpolate(features, each)), newline])
      .indexSelect(0, tokens)
      .unsqueeze(0);
  }
}

/** Fewer features between those of a grid: (all, C) -> (rows · columns, C). */
function interpolate(
  features: Tensor,
  { features: places, from, to }: PlacedInterpolation,
): Tensor {
  // Channels last in memory, as features lie.
  const gridNCHW = features
    .indexSelect(0, places)
    .view([1, from.rows, from.columns, -1])
    .permute([0, 3, 1, 2]);
  return gridNCHW
    .upsampleBilinear2d([to.rows, to.columns], false)
    .permute([0, 2, 3, 1])
    .flatten(0, 2);
}
