/**
 * The projector of LLaVA-1.5 (Liu et al. 2023): linear layers with an activation between them, from the vision tower's hidden
 * states to the decoder's embeddings. Parameters `linear_1`, `linear_2`, ... as transformers names them.
 *
 * I: images, P: states of the tower, N: features of one image, V: the tower's hidden size, C: the decoder's.
 */
import {
  activation,
  type Activation,
  type BuildOptions,
  type DropoutMasks,
  Linear,
  Module,
} from '../nn/index.js';
import type { Tensor } from '../torch/index.js';
import type { ProjectorConfig } from './configs/projector-config.js';

export class Projector extends Module {
  private readonly linears: readonly Linear[];
  private readonly act: Activation;
  private readonly dropsFirst: boolean;

  constructor(config: ProjectorConfig, { dtype = 'float32' }: Pick<BuildOptions, 'dtype'> = {}) {
    super();
    const { visualHiddenSize: V, textHiddenSize: C, depth, bias, hiddenAct, select } = config;
    this.act = activation(hiddenAct);
    this.dropsFirst = select === 'default';
    this.linears = Array.from({ length: depth }, (_, i) =>
      this.addChild(`linear_${i + 1}`, new Linear(i === 0 ? V : C, C, { bias, dtype })),
    );
  }

  /** A hidden state of the tower (I, P, V) -> image features (I, N, C), N = P - 1 without the first, CLIP's class token. */
  forward(xIPV: Tensor, masks?: DropoutMasks): Tensor {
    const seenINV = this.dropsFirst ? xIPV.narrow(1, 1, xIPV.size(1) - 1) : xIPV;
    const [first, ...rest] = this.linears as [Linear, ...Linear[]];
    const start = first.forward(seenINV.to(first.base.dtype), masks);
    return rest.reduce((x, linear) => linear.forward(this.act(x), masks), start);
  }
}
