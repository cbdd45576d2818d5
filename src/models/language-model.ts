/**
 * A decoder with its way in and its way out, as segments: [embedding] -> [decoder block] ... -> [head and loss]. Alone it is a
 * text model; in a LLaVA the embedding also takes image features.
 *
 * B: rows, T: positions, C: hidden size, N: image features of the batch, L: supervised positions, V: vocabulary.
 */
import type { ModelPart } from '../formats/index.js';
import {
  attention,
  attentionByHand,
  type BuildOptions,
  chunkedCrossEntropy,
  CPU_KERNELS,
  DenseWeight,
  type Kernels,
  Linear,
  Module,
} from '../nn/index.js';
import { scope, type Tensor } from '../torch/index.js';
import type { Batch, Supervised } from './batch.js';
import { ConfigError } from './configs/read-config.js';
import type { DecoderConfig } from './configs/decoder-config.js';
import { Decoder } from './decoder.js';
import type { InputFacts } from './sample.js';
import type {
  Head,
  HeadOptions,
  HeadResult,
  Segment,
  SegmentBase,
  SegmentedModel,
  TrainingInputs,
} from './segment.js';
import { TrainedBlock } from './trained-block.js';

/** What a text model and a LLaVA share. */
export abstract class LanguageModel extends Module implements SegmentedModel {
  abstract readonly segments: readonly Segment[];
  abstract readonly head: Head;
  abstract readonly input: InputFacts;
  /** What it was built with. */
  readonly kernels: Kernels;
  readonly decoder: Decoder;
  private readonly lmHead: Linear | undefined;
  /** Where each module lies in the tree, once that is whole. */
  private paths: ReadonlyMap<Module, string> = new Map();

  constructor(config: DecoderConfig, { dtype = 'float32', kernels = CPU_KERNELS }: BuildOptions) {
    super();
    this.kernels = kernels;
    this.decoder = new Decoder(config, { dtype });
    this.lmHead = config.tieWordEmbeddings
      ? undefined
      : new Linear(config.hiddenSize, config.vocabSize, { bias: false, dtype });
  }

  inputs({ inputIds, positions, sequences, images }: Batch): TrainingInputs {
    const { slidingWindow } = this.decoder.config;
    if (slidingWindow !== null && sequences.longest > slidingWindow) {
      throw new ConfigError(
        `a sequence of ${sequences.longest} tokens is longer than the model's window of ${slidingWindow} (sliding_window)`,
        {
          code: 'E_SLIDING_WINDOW',
          hint: `Limit sequences to ${slidingWindow} tokens, or choose a model without a window.`,
        },
      );
    }
    const kernel = this.kernels.attention;
    return {
      inputIds,
      images,
      rotation: this.decoder.rotary.forward(positions, this.decoder.embedTokens.weight.dtype),
      attend: (_layer, q, k, v) => attention(q, k, v, { kernel, causal: true, sequences }),
      attention: attentionByHand(kernel, sequences),
    };
  }

  /** Parameters that are another one: the matrix to the vocabulary, where it is the embeddings. */
  get tied(): ReadonlyMap<string, string> {
    if (this.lmHead !== undefined) return new Map();
    return new Map([['lm_head.weight', `${this.paths.get(this.decoder.embedTokens)!}.weight`]]);
  }

  /** Registers the decoder under a name and the head, which end the tree. */
  protected addLanguageModel(name: string): void {
    this.addChild(name, this.decoder);
    if (this.lmHead !== undefined) this.addChild('lm_head', this.lmHead);
    this.paths = new Map([...this.namedModules()].map(([path, module]) => [module, path]));
  }

  /** What all segments have: a name, and the parameters of some modules of the tree. */
  protected segmentBase(name: string, part: ModelPart, modules: readonly Module[]): SegmentBase {
    return { name, part, parameters: () => this.parametersOf(modules) };
  }

  /** The parameters of some modules, by their names in the model. */
  private parametersOf(modules: readonly Module[]): Map<string, Tensor> {
    return new Map(
      modules.flatMap((module) => [...module.namedParameters(this.paths.get(module))]),
    );
  }

  /** Token embeddings, with image features in their places. */
  protected embeddingSegment(): Segment {
    const { embedTokens } = this.decoder;
    return {
      ...this.segmentBase('embedding', 'decoder', [embedTokens]),
      visual: false,
      isBlock: false,
      forward(features, { inputIds, images }) {
        const xBTC = embedTokens.forward(inputIds);
        if (features === null || images === null) return xBTC;
        const featuresNC = features.flatten(0, 1).to(xBTC.dtype);
        return xBTC.flatten(0, 1).indexCopy(0, images.positions, featuresNC).view(xBTC.shape);
      },
    };
  }

  protected blockSegments(): Segment[] {
    return this.decoder.blocks.map((block, i) => {
      const segment: Segment = {
        ...this.segmentBase(`decoder.${i}`, 'decoder', [block]),
        visual: false,
        isBlock: true,
        forward: (x, inputs, masks) => block.forward(x!, inputs, masks),
      };
      // Norms of queries and keys are not in the backward by hand.
      if (this.decoder.config.qkNorm) return segment;
      const byHand = new TrainedBlock(block);
      const laySideBySide = (): void => {
        byHand.laySideBySide();
      };
      return { ...segment, laySideBySide, byHand };
    });
  }

  protected makeHead(): Head {
    const { norm, embedTokens } = this.decoder;
    const { lmHead } = this;
    const tied = new DenseWeight(() => embedTokens.weight);
    const logits = (xNC: Tensor): Tensor =>
      lmHead === undefined ? tied.product(norm.forward(xNC)) : lmHead.forward(norm.forward(xNC));
    return {
      ...this.segmentBase('head', 'decoder', [norm, lmHead ?? embedTokens]),
      logits,
      losses: (xBTC, supervised, options) => supervisedLosses(logits, xBTC, supervised, options),
    };
  }
}

/** Losses where there is a label; their gradient is spread back over all positions. */
function supervisedLosses(
  logits: (xNC: Tensor) => Tensor,
  xBTC: Tensor,
  { positions, targets }: Supervised,
  { chunk, gradient, selected = false }: HeadOptions = {},
): HeadResult {
  return scope(() => {
    const rows = xBTC.detach().flatten(0, 1);
    const xLC = selected ? rows : rows.indexSelect(0, positions);
    const { losses, hiddenGradient, parameterGradients } = chunkedCrossEntropy(
      logits,
      xLC,
      targets,
      {
        ...(chunk !== undefined && { chunk }),
        ...(gradient !== undefined && { gradient }),
      },
    );
    if (hiddenGradient === null) return { losses, inputGradient: null, parameterGradients };
    const all = selected
      ? hiddenGradient
      : rows.zerosLike().indexCopy_(0, positions, hiddenGradient);
    return { losses, inputGradient: all.view(xBTC.shape), parameterGradients };
  });
}

/** A decoder alone; parameter names are those of transformers' `LlamaForCausalLM`. */
export class TextModel extends LanguageModel {
  readonly segments: readonly Segment[];
  readonly head: Head;
  readonly input: InputFacts;

  constructor(
    readonly config: DecoderConfig,
    options: BuildOptions = {},
  ) {
    super(config, options);
    this.addLanguageModel('model');
    this.input = { vocabSize: config.vocabSize, image: null };
    this.segments = [this.embeddingSegment(), ...this.blockSegments()];
    this.head = this.makeHead();
  }
}
