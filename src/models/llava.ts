/**
 * LLaVA (Liu et al. 2023): features of a vision tower, projected, take the places of image tokens in front of a decoder.
 * Parameter names are those of transformers' `LlavaForConditionalGeneration`, and of its `LlavaNextForConditionalGeneration` where
 * pictures come in tiles (Liu et al. 2024).
 *
 * ```
 * pixels -> vision tower, up to the selected layer -> projector -> splice -> decoder -> head and loss
 *                                                    token ids ---^
 * ```
 */
import type { BuildOptions } from '../nn/index.js';
import { imageFeatures, type LlavaConfig } from './configs/llava-config.js';
import { ImageNewline } from './image-newline.js';
import { LanguageModel } from './language-model.js';
import { Projector } from './projector.js';
import type { InputFacts } from './sample.js';
import type { Head, Segment } from './segment.js';
import { mostOf } from './tiles.js';
import { VisionTower } from './vision-tower.js';

export class Llava extends LanguageModel {
  readonly segments: readonly Segment[];
  readonly head: Head;
  input: InputFacts;
  readonly vision: VisionTower;
  readonly projector: Projector;
  /** Of a LLaVA-NeXT. */
  private readonly newline: ImageNewline | undefined;

  constructor(
    readonly config: LlavaConfig,
    options: BuildOptions = {},
  ) {
    super(config.text, options);
    if (config.tiles !== null) {
      this.newline = this.addChild('model', new ImageNewline(config.text.hiddenSize, options));
    }
    this.vision = this.addChild('model.vision_tower', new VisionTower(config.vision, options));
    this.projector = this.addChild(
      'model.multi_modal_projector',
      new Projector(config.projector, options),
    );
    this.addLanguageModel('model.language_model');
    this.input = inputFacts(config);
    this.segments = [
      ...this.visionSegments(),
      this.projectorSegment(),
      this.embeddingSegment(),
      ...this.blockSegments(),
    ];
    this.head = this.makeHead();
  }

  /**
   * From now on bytes of pictures are normalised by a table, which the settings beside the weights give.
   *
   * @param normaliseTable normalised value of byte b in channel c at 256 c + b
   */
  normaliseBy(normaliseTable: Float32Array): void {
    this.input = { ...this.input, image: { ...this.input.image!, normaliseTable } };
  }

  /** Nothing above the selected layer. */
  private visionSegments(): Segment[] {
    const { vision } = this;
    return [
      {
        ...this.segmentBase('vision.embeddings', 'vision', vision.embedding),
        visual: true,
        isBlock: false,
        forward: (_none, { images }) => vision.embed(images!.pixelValues),
      },
      ...vision.blocks.slice(0, this.config.featureLayer).map<Segment>((block, i) => ({
        ...this.segmentBase(`vision.${i}`, 'vision', [block]),
        visual: true,
        isBlock: true,
        forward: (x, _inputs, masks) => block.forward(x!, masks),
        frozen: (x) => block.frozen(x!),
        laySideBySide: () => {
          block.laySideBySide();
        },
      })),
    ];
  }

  private projectorSegment(): Segment {
    const { projector, newline } = this;
    return {
      ...this.segmentBase('projector', 'projector', [projector, ...(newline ? [newline] : [])]),
      visual: true,
      isBlock: false,
      forward(x, { images }, masks) {
        const featuresINC = projector.forward(x!, masks);
        return newline?.arrange(featuresINC, images!.arrangement!) ?? featuresINC;
      },
    };
  }
}

function inputFacts(config: LlavaConfig): InputFacts {
  const { vision, text, imageTokenId: tokenId, tiles } = config;
  const { vocabSize } = text;
  const { imageSize: size } = vision;
  if (tiles === null) return { vocabSize, image: { tokenId, tokens: imageFeatures(config), size } };
  return {
    vocabSize,
    image: { tokenId, tokens: mostOf(tiles).tokens, size, tiles },
  };
}
