/**
 * The vision tower of CLIP (Radford et al. 2021): a pre-norm vision transformer (Dosovitskiy et al. 2021) with a class token
 * and a norm before its first block. Parameter names are those of transformers' `CLIPVisionModel`.
 *
 * I: images, S: pixels along a side, P: patches + 1, C: hidden size, H: heads, D: head size, F: intermediate size.
 */
import {
  activation,
  attention,
  type Activation,
  type AttentionKernel,
  type BuildOptions,
  CPU_KERNELS,
  type DropoutMasks,
  Embedding,
  LayerNorm,
  Linear,
  Module,
  normalOf,
  PatchConv2d,
  Projection,
} from '../nn/index.js';
import { cat, type Tensor } from '../torch/index.js';
import type { ClipVisionConfig } from './configs/clip-vision-config.js';

type Built = Required<BuildOptions>;

/** Standard deviations of a tower that is trained from scratch, as transformers draws it. */
function deviations(config: ClipVisionConfig) {
  const { hiddenSize: C, numHiddenLayers, initializerRange, initializerFactor: factor } = config;
  const perLayer = (2 * numHiddenLayers) ** -0.5;
  return {
    embedding: initializerRange * factor,
    classToken: C ** -0.5 * factor,
    /** Queries, keys, values, and what an MLP adds to the residual stream. */
    inner: C ** -0.5 * perLayer * factor,
    attentionOut: C ** -0.5 * factor,
    mlpUp: (2 * C) ** -0.5 * factor,
  };
}

/** Patches and the class token, each with its position. */
export class ClipEmbeddings extends Module {
  private readonly patch: PatchConv2d;
  private readonly position: Embedding;

  constructor(config: ClipVisionConfig, { dtype, kernels }: Built) {
    super();
    const { hiddenSize: C, numChannels, imageSize, patchSize } = config;
    const { classToken, embedding } = deviations(config);
    const drawn = { dtype, initializer: normalOf(embedding) };
    this.addParameter('class_embedding', [C], dtype, normalOf(classToken));
    this.patch = this.addChild(
      'patch_embedding',
      new PatchConv2d(numChannels, C, patchSize, {
        ...drawn,
        bias: false,
        kernel: kernels.patches,
      }),
    );
    const P = Math.floor(imageSize / patchSize) ** 2 + 1;
    this.position = this.addChild('position_embedding', new Embedding(P, C, drawn));
  }

  /** pixels (I, 3, S, S) -> (I, P, C), the class token first. */
  forward(pixels: Tensor): Tensor {
    const patchesIPC = this.patch.forward(pixels.to(this.patch.weight.dtype));
    const [I, , C] = patchesIPC.shape as [number, number, number];
    const classI1C = this.parameter('class_embedding').expand([I, 1, C]);
    return cat([classI1C, patchesIPC], 1).add(this.position.weight);
  }
}

class ClipAttention extends Module {
  private readonly linears: readonly Linear[];
  /** Queries, keys and values in one product. */
  readonly qkv: Projection;
  private readonly out: Linear;
  private readonly heads: number;
  private readonly kernel: AttentionKernel;

  constructor(config: ClipVisionConfig, { dtype, kernels }: Built) {
    super();
    const { hiddenSize: C, numAttentionHeads } = config;
    const { inner, attentionOut } = deviations(config);
    this.heads = numAttentionHeads;
    this.kernel = kernels.attention;
    const linear = (std: number): Linear => new Linear(C, C, { dtype, initializer: normalOf(std) });
    this.linears = ['q_proj', 'k_proj', 'v_proj'].map((name) => this.addChild(name, linear(inner)));
    this.qkv = new Projection(this.linears);
    this.out = this.addChild('out_proj', linear(attentionOut));
  }

  forward(xIPC: Tensor, masks?: DropoutMasks): Tensor {
    const qkv = this.linears.map((projection) => projection.forward(xIPC, masks));
    return this.out.forward(this.mix(qkv), masks);
  }

  frozen(xIPC: Tensor): Tensor {
    return this.out.forward(this.mix(this.qkv.frozen(xIPC)));
  }

  private mix(qkv: readonly Tensor[]): Tensor {
    const [I, P, C] = qkv[0]!.shape as [number, number, number];
    const shapeIPHD = [I, P, this.heads, C / this.heads];
    const [q, k, v] = qkv.map((each) => each.view(shapeIPHD)) as [Tensor, Tensor, Tensor];
    return attention(q, k, v, { kernel: this.kernel }).reshape([I, P, C]);
  }
}

class ClipMlp extends Module {
  private readonly up: Linear;
  private readonly down: Linear;
  private readonly act: Activation;

  constructor(config: ClipVisionConfig, { dtype }: Built) {
    super();
    const { hiddenSize: C, intermediateSize: F, hiddenAct } = config;
    this.act = activation(hiddenAct);
    const { inner, mlpUp } = deviations(config);
    this.up = this.addChild('fc1', new Linear(C, F, { dtype, initializer: normalOf(mlpUp) }));
    this.down = this.addChild('fc2', new Linear(F, C, { dtype, initializer: normalOf(inner) }));
  }

  forward(xIPC: Tensor, masks?: DropoutMasks): Tensor {
    return this.down.forward(this.act(this.up.forward(xIPC, masks)), masks);
  }
}

/** `h = x + attention(norm(x))`, `y = h + mlp(norm(h))` */
export class ClipBlock extends Module {
  private readonly norm1: LayerNorm;
  private readonly attention: ClipAttention;
  private readonly norm2: LayerNorm;
  private readonly mlp: ClipMlp;

  constructor(config: ClipVisionConfig, options: Built) {
    super();
    const norm = { eps: config.layerNormEps, dtype: options.dtype };
    this.attention = this.addChild('self_attn', new ClipAttention(config, options));
    this.norm1 = this.addChild('layer_norm1', new LayerNorm(config.hiddenSize, norm));
    this.mlp = this.addChild('mlp', new ClipMlp(config, options));
    this.norm2 = this.addChild('layer_norm2', new LayerNorm(config.hiddenSize, norm));
  }

  laySideBySide(): void {
    this.attention.qkv.laySideBySide();
  }

  /** (I, P, C) -> (I, P, C) */
  forward(xIPC: Tensor, masks?: DropoutMasks): Tensor {
    return this.around(xIPC, (nIPC) => this.attention.forward(nIPC, masks), masks);
  }

  /** The same where nothing is to be differentiated. */
  frozen(xIPC: Tensor): Tensor {
    return this.around(xIPC, (nIPC) => this.attention.frozen(nIPC));
  }

  private around(xIPC: Tensor, attend: (nIPC: Tensor) => Tensor, masks?: DropoutMasks): Tensor {
    // In place: what the sums overwrite is saved for no gradient.
    const hIPC = attend(this.norm1.forward(xIPC)).add_(xIPC);
    return this.mlp.forward(this.norm2.forward(hIPC), masks).add_(hIPC);
  }
}

/**
 * All parameters of the tower, also of blocks above the one whose result is used: a checkpoint holds them.
 *
 * Hidden state 0 is what `embed` gives, state i what block i - 1 gives.
 */
export class ClipVisionTower extends Module {
  readonly embeddings: ClipEmbeddings;
  readonly preNorm: LayerNorm;
  readonly blocks: readonly ClipBlock[];

  constructor(
    readonly config: ClipVisionConfig,
    { dtype = 'float32', kernels = CPU_KERNELS }: BuildOptions = {},
  ) {
    super();
    const options = { dtype, kernels };
    const norm = { eps: config.layerNormEps, dtype };
    this.embeddings = this.addChild('embeddings', new ClipEmbeddings(config, options));
    // transformers spells it so.
    this.preNorm = this.addChild('pre_layrnorm', new LayerNorm(config.hiddenSize, norm));
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, i) =>
      this.addChild(`encoder.layers.${i}`, new ClipBlock(config, options)),
    );
    // Only ever used on the class token of the last state, which LLaVA does not read.
    this.addChild('post_layernorm', new LayerNorm(config.hiddenSize, norm));
  }

  /** pixels (I, 3, S, S) -> hidden state 0 (I, P, C) */
  embed(pixels: Tensor): Tensor {
    return this.preNorm.forward(this.embeddings.forward(pixels));
  }
}
