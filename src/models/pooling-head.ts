/**
 * The head by which SigLIP makes one vector of all patches: an attention of one query, a norm and an MLP. No LLaVA computes it; its
 * weights are held so that what was read is written again. Names are those of transformers' `SiglipMultiheadAttentionPoolingHead`.
 */
import { allZeros, type BuildOptions, LayerNorm, Linear, Module, normal } from '../nn/index.js';
import type { VisionConfig } from './configs/vision-config.js';

export class PoolingHead extends Module {
  constructor(
    { hiddenSize: C, intermediateSize: F, layerNormEps: eps }: VisionConfig,
    { dtype }: Required<Pick<BuildOptions, 'dtype'>>,
  ) {
    super();
    this.addParameter('probe', [1, 1, C], dtype, normal);
    this.addParameter('attention.in_proj_weight', [3 * C, C], dtype, normal);
    this.addParameter('attention.in_proj_bias', [3 * C], dtype, allZeros);
    this.addChild('attention.out_proj', new Linear(C, C, { dtype }));
    this.addChild('layernorm', new LayerNorm(C, { eps, dtype }));
    this.addChild('mlp.fc1', new Linear(C, F, { dtype }));
    this.addChild('mlp.fc2', new Linear(F, C, { dtype }));
  }
}
