/** For tests of the training step: a tiny LLaVA with random weights, and batches for it. */

import { Llava, makeBatch, readLlavaConfig, type Batch, type Sample } from '../../models/index.js';
import { kernelsFor, type RowPlaces } from '../../nn/index.js';
import { RandomGenerator, type Device, type DType } from '../../torch/index.js';

export interface TinyOptions {
  tied?: boolean;
  dtype?: DType;
  seed?: number;
  /** @default 'cpu' */
  device?: Device;
  /** Layers 16 times as wide, with as many words. */
  wide?: boolean;
  /** Whether pictures come in tiles, those of a LLaVA-NeXT. */
  tiled?: boolean;
}

export const TINY_VOCABULARY = 40;
const IMAGE_TOKEN = 39;
const SIDE = 8;

const configOf = (tied: boolean, { scale = 1, tiled = false } = {}) =>
  readLlavaConfig({
    file: 'tiny',
    json: {
      ...(tiled
        ? { model_type: 'llava_next', image_grid_pinpoints: [[SIDE, 2 * SIDE]] }
        : { model_type: 'llava' }),
      image_token_index: IMAGE_TOKEN,
      vision_feature_layer: -2,
      tie_word_embeddings: tied,
      vision_config: {
        model_type: 'clip_vision_model',
        hidden_size: 16 * scale,
        intermediate_size: 24 * scale,
        num_hidden_layers: 3,
        num_attention_heads: 2,
        image_size: SIDE,
        patch_size: 4,
      },
      text_config: {
        model_type: 'llama',
        vocab_size: TINY_VOCABULARY,
        hidden_size: 24 * scale,
        intermediate_size: 40 * scale,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        tie_word_embeddings: tied,
      },
    },
  });

/** A LLaVA of some thousand parameters, frozen. */
export function tinyLlava({
  tied = false,
  dtype = 'float32',
  seed = 1,
  device = 'cpu',
  tiled = false,
}: TinyOptions = {}): Llava {
  const model = new Llava(configOf(tied, { tiled }), {
    dtype,
    ...(device === 'cpu' ? {} : { kernels: kernelsFor({ device, dtype }) }),
  });
  const generator = RandomGenerator.create(seed, device);
  model.initialize(device, { generator, std: 0.2 });
  generator.dispose();
  return model;
}

/** The same model on the meta device. */
export function ghostLlava({
  tied = false,
  dtype = 'float32',
  wide = false,
}: TinyOptions = {}): Llava {
  return new Llava(configOf(tied, { scale: wide ? 16 : 1 }), { dtype });
}

/** A sample with so many pictures in front of so many words, the last half of them supervised. */
export function tinySample(images: number, words: number, seed = 0): Sample {
  const word = (i: number): number => (7 * i + 13 * seed + 5) % (TINY_VOCABULARY - 1);
  const pictures = new Array<number>(images * 4).fill(IMAGE_TOKEN);
  const text = Array.from({ length: words }, (_, i) => word(i));
  const half = Math.floor(words / 2);
  return {
    inputIds: [...pictures, ...text],
    labels: [...pictures.map(() => -100), ...text.map((id, i) => (i < half ? -100 : id))],
    images: Array.from({ length: images }, (_, k) =>
      Float32Array.from({ length: 3 * SIDE * SIDE }, (_, i) => Math.sin(i * 0.7 + 3 * k + seed)),
    ),
  };
}

const INPUT = {
  vocabSize: TINY_VOCABULARY,
  image: { tokenId: IMAGE_TOKEN, tokens: 4, size: SIDE },
};

/** Two samples with pictures and one without, of different lengths. */
export function tinyBatch(seed = 0, device: Device = 'cpu'): Batch {
  const samples = [tinySample(1, 6, seed), tinySample(2, 9, seed + 1), tinySample(0, 7, seed + 2)];
  return makeBatch(samples, INPUT, { device });
}

/** Samples without any picture. */
export function tinyTextBatch(seed = 0, device: Device = 'cpu'): Batch {
  return makeBatch([tinySample(0, 8, seed), tinySample(0, 5, seed + 1)], INPUT, { device });
}

/** The same batch on the meta device. */
export function ghostBatch(batch: Batch): Batch {
  return {
    ...batch,
    inputIds: batch.inputIds.to('meta'),
    positions: batch.positions.to('meta'),
    sequences: { ...batch.sequences, starts: batch.sequences.starts.to('meta') },
    places: ghostPlaces(batch.places),
    images: batch.images && {
      pixelValues: batch.images.pixelValues.to('meta'),
      positions: batch.images.positions.to('meta'),
      places: ghostPlaces(batch.images.places),
    },
    supervised: {
      positions: batch.supervised.positions.to('meta'),
      targets: batch.supervised.targets.to('meta'),
    },
  };
}

const ghostPlaces = ({ records, indices }: RowPlaces): RowPlaces => ({
  records: records.to('meta'),
  indices: indices.to('meta'),
});
