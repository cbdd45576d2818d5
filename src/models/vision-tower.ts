/**
 * The vision tower of CLIP (Radford et al. 2021) and SigLIP (Zhai et al. 2023): a pre-norm vision transformer (Dosovitskiy et
 * al. 2021), CLIP's with a class token and a norm before its first block. Parameter names are those of transformers'
 * `CLIPVisionModel` and `SiglipVisionModel`.
 *
 * I: images, S: pixels along a side, P: patches, + 1 with a class token, C: hidden size, H: heads, D: head size, F: intermediate size.
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
  type Initializer,
  LayerNorm,
  Linear,
  Module,
  normalOf,
  PatchConv2d,
  Projection,
  uniform,
} from '../nn/index.js';
import { cat, type Tensor } from '../torch/index.js';
import type { VisionConfig } from './configs/vision-config.js';
import { VISION_FAMILIES } from './configs/vision-families.js';
import { PoolingHead } from './pooling-head.js';

type Built = Required<BuildOptions>;

/** How the weights of a tower that is trained from scratch start. */
interface Start {
  readonly patch: Initializer;
  readonly position: Initializer;
  /** CLIP's. */
  readonly classToken?: Initializer;
  /** Queries, keys, values. */
  readonly attentionIn: Initializer;
  readonly attentionOut: Initializer;
  readonly mlpUp: Initializer;
  readonly mlpDown: Initializer;
}

/** As transformers draws them. */
function start(config: VisionConfig): Start {
  return config.family === 'clip' ? clipStart(config) : siglipStart(config);
}

function clipStart(config: VisionConfig): Start {
  const { hiddenSize: C, numHiddenLayers, initializerRange, initializerFactor: factor } = config;
  const embedding = normalOf(initializerRange * factor);
  const perLayer = (2 * numHiddenLayers) ** -0.5;
  const inner = normalOf(C ** -0.5 * perLayer * factor);
  return {
    patch: embedding,
    position: embedding,
    classToken: normalOf(C ** -0.5 * factor),
    attentionIn: inner,
    attentionOut: normalOf(C ** -0.5 * factor),
    mlpUp: normalOf((2 * C) ** -0.5 * factor),
    mlpDown: inner,
  };
}

function siglipStart(config: VisionConfig): Start {
  const { hiddenSize: C, intermediateSize: F, numChannels, patchSize } = config;
  /** Glorot and Bengio 2010. */
  const xavier = (fanIn: number, fanOut: number): Initializer =>
    uniform((6 / (fanIn + fanOut)) ** 0.5);
  return {
    patch: normalOf((numChannels * patchSize ** 2) ** -0.5),
    position: normalOf(C ** -0.5),
    attentionIn: xavier(C, C),
    attentionOut: xavier(C, C),
    mlpUp: xavier(C, F),
    mlpDown: xavier(F, C),
  };
}

/** Patches, and CLIP's class token before them, each with its position. */
export class VisionEmbeddings extends Module {
  private readonly patch: PatchConv2d;
  private readonly position: Embedding;

  constructor(config: VisionConfig, { dtype, kernels }: Built) {
    super();
    const { hiddenSize: C, numChannels, imageSize, patchSize } = config;
    const { patchBias } = VISION_FAMILIES[config.family];
    const { classToken, ...drawn } = start(config);
    if (classToken !== undefined) this.addParameter('class_embedding', [C], dtype, classToken);
    this.patch = this.addChild(
      'patch_embedding',
      new PatchConv2d(numChannels, C, patchSize, {
        dtype,
        initializer: drawn.patch,
        bias: patchBias,
        kernel: kernels.patches,
      }),
    );
    const P = Math.floor(imageSize / patchSize) ** 2 + (classToken === undefined ? 0 : 1);
    const positions = { dtype, initializer: drawn.position };
    this.position = this.addChild('position_embedding', new Embedding(P, C, positions));
  }

  /** pixels (I, 3, S, S) -> (I, P, C), the class token first. */
  forward(pixels: Tensor): Tensor {
    const patchesIPC = this.patch.forward(pixels.to(this.patch.weight.dtype));
    const [I, , C] = patchesIPC.shape as [number, number, number];
    const classI1C = this.optionalParameter('class_embedding')?.expand([I, 1, C]);
    const allIPC = classI1C === undefined ? patchesIPC : cat([classI1C, patchesIPC], 1);
    return allIPC.add(this.position.weight);
  }
}

class VisionAttention extends Module {
  private readonly linears: readonly Linear[];
  /** Queries, keys and values in one product. */
  readonly qkv: Projection;
  private readonly out: Linear;
  private readonly heads: number;
  private readonly kernel: AttentionKernel;

  constructor(config: VisionConfig, { dtype, kernels }: Built) {
    super();
    const { hiddenSize: C, numAttentionHeads } = config;
    const { attentionIn, attentionOut } = start(config);
    this.heads = numAttentionHeads;
    this.kernel = kernels.attention;
    const linear = (initializer: Initializer): Linear => new Linear(C, C, { dtype, initializer });
    this.linears = ['q_proj', 'k_proj', 'v_proj'].map((name) =>
      this.addChild(name, linear(attentionIn)),
    );
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

class VisionMlp extends Module {
  private readonly up: Linear;
  private readonly down: Linear;
  private readonly act: Activation;

  constructor(config: VisionConfig, { dtype }: Built) {
    super();
    const { hiddenSize: C, intermediateSize: F, hiddenAct } = config;
    this.act = activation(hiddenAct);
    const { mlpUp, mlpDown } = start(config);
    this.up = this.addChild('fc1', new Linear(C, F, { dtype, initializer: mlpUp }));
    this.down = this.addChild('fc2', new Linear(F, C, { dtype, initializer: mlpDown }));
  }

  forward(xIPC: Tensor, masks?: DropoutMasks): Tensor {
    return this.down.forward(this.act(this.up.forward(xIPC, masks)), masks);
  }
}

/** `h = x + attention(norm(x))`, `y = h + mlp(norm(h))` */
export class VisionBlock extends Module {
  private readonly norm1: LayerNorm;
  private readonly attention: VisionAttention;
  private readonly norm2: LayerNorm;
  private readonly mlp: VisionMlp;

  constructor(config: VisionConfig, options: Built) {
    super();
    const norm = { eps: config.layerNormEps, dtype: options.dtype };
    this.attention = this.addChild('self_attn', new VisionAttention(config, options));
    this.norm1 = this.addChild('layer_norm1', new LayerNorm(config.hiddenSize, norm));
    this.mlp = this.addChild('mlp', new VisionMlp(config, options));
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
export class VisionTower extends Module {
  readonly embeddings: VisionEmbeddings;
  private readonly preNorm: LayerNorm | undefined;
  readonly blocks: readonly VisionBlock[];

  constructor(
    readonly config: VisionConfig,
    { dtype = 'float32', kernels = CPU_KERNELS }: BuildOptions = {},
  ) {
    super();
    const options = { dtype, kernels };
    const norm = { eps: config.layerNormEps, dtype };
    this.embeddings = this.addChild('embeddings', new VisionEmbeddings(config, options));
    if (VISION_FAMILIES[config.family].preNorm) {
      // transformers spells it so.
      this.preNorm = this.addChild('pre_layrnorm', new LayerNorm(config.hiddenSize, norm));
    }
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, i) =>
      this.addChild(`encoder.layers.${i}`, new VisionBlock(config, options)),
    );
    // LLaVA reads states from before it.
    this.addChild('post_layernorm', new LayerNorm(config.hiddenSize, norm));
    if (config.poolingHead) this.addChild('head', new PoolingHead(config, { dtype }));
  }

  /** The modules that `embed` computes with. */
  get embedding(): readonly Module[] {
    return this.preNorm === undefined ? [this.embeddings] : [this.embeddings, this.preNorm];
  }

  /** pixels (I, 3, S, S) -> hidden state 0 (I, P, C) */
  embed(pixels: Tensor): Tensor {
    const xIPC = this.embeddings.forward(pixels);
    return this.preNorm?.forward(xIPC) ?? xIPC;
  }
}
