/**
 * The decoder of Llama (Touvron et al. 2023), which Vicuna, Mistral and Qwen2 share, and Qwen3 with norms of queries and keys: pre-norm
 * blocks with RMSNorm, grouped heads (Ainslie et al. 2023), rotary positions and SwiGLU (Shazeer 2020). Parameter names are those of transformers'
 * `LlamaModel`.
 *
 * B: rows, T: positions, C: hidden size, H: query heads, G: key and value heads, D: head size, F: intermediate size.
 */
import {
  activation,
  type Activation,
  type BuildOptions,
  type DropoutMasks,
  Embedding,
  Linear,
  Module,
  RMSNorm,
  rotate,
  RotaryEmbedding,
} from '../nn/index.js';
import type { Tensor } from '../torch/index.js';
import type { DecoderConfig } from './configs/decoder-config.js';
import type { SegmentInputs } from './segment.js';

type Built = Required<Pick<BuildOptions, 'dtype'>>;

class DecoderAttention extends Module {
  readonly q: Linear;
  readonly k: Linear;
  readonly v: Linear;
  readonly out: Linear;
  /** Of queries and keys, where there are any. */
  readonly qNorm: RMSNorm | undefined;
  readonly kNorm: RMSNorm | undefined;
  readonly headDim: number;

  constructor(
    config: DecoderConfig,
    private readonly layer: number,
    { dtype }: Built,
  ) {
    super();
    const { hiddenSize: C, numAttentionHeads: H, numKeyValueHeads: G, headDim: D } = config;
    this.headDim = D;
    const bias = config.attentionBias;
    this.q = this.addChild('q_proj', new Linear(C, H * D, { bias: bias.qkv, dtype }));
    this.k = this.addChild('k_proj', new Linear(C, G * D, { bias: bias.qkv, dtype }));
    this.v = this.addChild('v_proj', new Linear(C, G * D, { bias: bias.qkv, dtype }));
    this.out = this.addChild('o_proj', new Linear(H * D, C, { bias: bias.out, dtype }));
    if (!config.qkNorm) return;
    const norm = { eps: config.rmsNormEps, dtype };
    this.qNorm = this.addChild('q_norm', new RMSNorm(D, norm));
    this.kNorm = this.addChild('k_norm', new RMSNorm(D, norm));
  }

  forward(xBTC: Tensor, { rotation, attend }: SegmentInputs, masks?: DropoutMasks): Tensor {
    const [B, T] = xBTC.shape as [number, number, number];
    const heads = (projection: Linear, norm?: RMSNorm): Tensor => {
      const split = projection.forward(xBTC, masks).view([B, T, -1, this.headDim]);
      return norm === undefined ? split : norm.forward(split);
    };
    const qBTHD = rotate(heads(this.q, this.qNorm), rotation);
    const kBTGD = rotate(heads(this.k, this.kNorm), rotation);
    const vBTGD = heads(this.v);
    const mixed = attend(this.layer, qBTHD, kBTGD, vBTGD).reshape([B, T, -1]);
    return this.out.forward(mixed, masks);
  }
}

/** `mlp(x) = down(act(gate(x)) * up(x))` */
class DecoderMlp extends Module {
  readonly gate: Linear;
  readonly up: Linear;
  readonly down: Linear;
  readonly act: Activation;

  constructor(config: DecoderConfig, { dtype }: Built) {
    super();
    const { hiddenSize: C, intermediateSize: F, hiddenAct, mlpBias: bias } = config;
    this.act = activation(hiddenAct);
    this.gate = this.addChild('gate_proj', new Linear(C, F, { bias, dtype }));
    this.up = this.addChild('up_proj', new Linear(C, F, { bias, dtype }));
    this.down = this.addChild('down_proj', new Linear(F, C, { bias, dtype }));
  }

  forward(xBTC: Tensor, masks?: DropoutMasks): Tensor {
    const gateBTF = this.act(this.gate.forward(xBTC, masks));
    return this.down.forward(gateBTF.mul(this.up.forward(xBTC, masks)), masks);
  }
}

/** `h = x + attention(norm(x))`, `y = h + mlp(norm(h))`; while it trains, trained-block.ts computes the same. */
export class DecoderBlock extends Module {
  readonly attentionNorm: RMSNorm;
  readonly attention: DecoderAttention;
  readonly mlpNorm: RMSNorm;
  readonly mlp: DecoderMlp;

  constructor(config: DecoderConfig, layer: number, options: Built) {
    super();
    const norm = { eps: config.rmsNormEps, dtype: options.dtype };
    this.attention = this.addChild('self_attn', new DecoderAttention(config, layer, options));
    this.mlp = this.addChild('mlp', new DecoderMlp(config, options));
    this.attentionNorm = this.addChild('input_layernorm', new RMSNorm(config.hiddenSize, norm));
    this.mlpNorm = this.addChild('post_attention_layernorm', new RMSNorm(config.hiddenSize, norm));
  }

  /** (B, T, C) -> (B, T, C) */
  forward(xBTC: Tensor, inputs: SegmentInputs, masks?: DropoutMasks): Tensor {
    const hBTC = xBTC.add(this.attention.forward(this.attentionNorm.forward(xBTC), inputs, masks));
    return hBTC.add(this.mlp.forward(this.mlpNorm.forward(hBTC), masks));
  }
}

/** Embeddings, blocks and the final norm; the matrix to the vocabulary is the language model's, not the decoder's. */
export class Decoder extends Module {
  readonly embedTokens: Embedding;
  readonly blocks: readonly DecoderBlock[];
  readonly norm: RMSNorm;
  readonly rotary: RotaryEmbedding;

  constructor(
    readonly config: DecoderConfig,
    { dtype = 'float32' }: Pick<BuildOptions, 'dtype'> = {},
  ) {
    super();
    const { vocabSize, hiddenSize: C, paddingIndex } = config;
    this.embedTokens = this.addChild(
      'embed_tokens',
      new Embedding(vocabSize, C, { paddingIndex, dtype }),
    );
    this.blocks = Array.from({ length: config.numHiddenLayers }, (_, i) =>
      this.addChild(`layers.${i}`, new DecoderBlock(config, i, { dtype })),
    );
    this.norm = this.addChild('norm', new RMSNorm(C, { eps: config.rmsNormEps, dtype }));
    this.rotary = this.addChild('rotary_emb', new RotaryEmbedding(config.headDim, config.rotary));
  }
}
