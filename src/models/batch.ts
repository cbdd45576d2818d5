/**
 * A batch: samples without padding, one after another on one axis of tokens, with everything that a model needs to know about
 * them made on the host. Shapes of everything computed from it follow from these counts, never from data on the device.
 */
import { DataError } from '../base/errors.js';
import { packSequences, type RowPlaces, type Sequences } from '../nn/index.js';
import { type Device, fromTypedArray, scope, sendTo, tensor, type Tensor } from '../torch/index.js';
import { arrange, type Arrangement } from './arrange.js';
import type { PlacedArrangement } from './image-newline.js';
import {
  type ImageFacts,
  IGNORED_LABEL,
  type ImagePixels,
  imageTokensOf,
  type InputFacts,
  type Sample,
} from './sample.js';
import { type TiledPixels, type TileFacts, tilesAmong, viewCount } from './tiles.js';

export interface BatchCounts {
  readonly sequences: number;
  /** All tokens, those of pictures included. */
  readonly tokens: number;
  readonly imageTokens: number;
  readonly images: number;
  /** Positions with a loss. */
  readonly supervised: number;
}

/** The positions that are to predict a given token. */
export interface Supervised {
  /** Indices into the B · T positions (N), int64. */
  readonly positions: Tensor;
  /** The token that each should predict (N), int64. */
  readonly targets: Tensor;
}

/**
 * T: all tokens, I: images (each view of those that come in tiles), S: pixels of a side, N: features of an image, M: image tokens
 * (I · N but for tiles), L: supervised positions.
 */
export interface Batch {
  /** (1, T), int64 */
  readonly inputIds: Tensor;
  /** Each token's place in its own sequence (1, T), int64. */
  readonly positions: Tensor;
  readonly sequences: Sequences;
  /** Whose each token is (T). */
  readonly places: RowPlaces;
  readonly images: {
    /** (I, 3, S, S), float32 */
    readonly pixelValues: Tensor;
    /** Where the features go (M), int64. */
    readonly positions: Tensor;
    /** Of pictures in tiles, which of the I · N features these are (M), or what else: see `Arrangement`. */
    readonly arrangement?: PlacedArrangement | undefined;
    /** Whose each picture is (I). */
    readonly places: RowPlaces;
  } | null;
  /** (L) each, int64 */
  readonly supervised: Supervised;
  readonly counts: BatchCounts;
}

export interface BatchOptions {
  /** @default 'cpu' */
  device?: Device;
}

/**
 * Packs samples and places them on a device.
 *
 * @throws DataError `E_SAMPLE` for ids outside of the vocabulary, image tokens that do not match the pictures, pictures of
 *   another size, labels of another length, empty samples; the message counts samples from 0.
 */
export function makeBatch(
  samples: readonly Sample[],
  input: InputFacts,
  { device = 'cpu' }: BatchOptions = {},
): Batch {
  const packed = pack(samples, input);
  const { ids, positions, records, imagePositions, imageRecords, imageIndices } = packed;
  const { supervised, targets } = packed;
  const pictures = samples.flatMap((sample) => sample.images);
  const tiles = input.image?.tiles;
  const { tokens: order, interpolations } = arrangementOf(samples, tiles);
  return scope(() => {
    // One copy to the device for all index tensors.
    const parts = [
      ...[ids, positions, records],
      ...[imagePositions, imageRecords, imageIndices],
      ...[supervised, targets],
      order,
      ...interpolations.map(({ features }) => features),
    ];
    const together = tensor(inOne(parts), { device }).to('int64');
    const split = together.splitWithSizes(parts.map((part) => part.length));
    const [idsT, positionsT, recordsT] = split.slice(0, 3) as [Tensor, Tensor, Tensor];
    const [imagePositionsT, recordsI, indicesI] = split.slice(3, 6) as [Tensor, Tensor, Tensor];
    const [supervisedL, targetsL, orderM, ...interpolated] = split.slice(6) as [
      ...[Tensor, Tensor, Tensor],
      ...Tensor[],
    ];
    return {
      inputIds: idsT.unsqueeze(0),
      positions: positionsT.unsqueeze(0),
      sequences: packSequences(packed.lengths, device),
      places: { records: recordsT, indices: positionsT },
      images:
        pictures.length === 0
          ? null
          : {
              pixelValues: pixelValues(pictures.map(viewsOf), input.image!, device),
              positions: imagePositionsT,
              ...(tiles !== undefined && {
                arrangement: {
                  tokens: orderM,
                  interpolations: interpolations.map((each, i) => ({
                    ...each,
                    features: interpolated[i]!,
                  })),
                },
              }),
              places: { records: recordsI, indices: indicesI },
            },
      supervised: { positions: supervisedL, targets: targetsL },
      counts: {
        sequences: samples.length,
        tokens: ids.length,
        imageTokens: imagePositions.length,
        images: pictures.length,
        supervised: supervised.length,
      },
    };
  });
}

function inOne(parts: readonly (readonly number[])[]): Int32Array {
  const all = new Int32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

/** Which positions of a sample are supervised, and what they predict. */
function supervisedPositions(labels: ArrayLike<number>): number[] {
  const positions: number[] = [];
  for (let t = 0; t + 1 < labels.length; t++)
    if (labels[t + 1] !== IGNORED_LABEL) positions.push(t);
  return positions;
}

interface Packed {
  readonly lengths: number[];
  readonly ids: number[];
  readonly positions: number[];
  readonly records: number[];
  readonly imagePositions: number[];
  readonly imageRecords: number[];
  readonly imageIndices: number[];
  readonly supervised: number[];
  readonly targets: number[];
}

function pack(samples: readonly Sample[], input: InputFacts): Packed {
  const packed: Packed = {
    lengths: [],
    ids: [],
    positions: [],
    records: [],
    imagePositions: [],
    imageRecords: [],
    imageIndices: [],
    supervised: [],
    targets: [],
  };
  samples.forEach((sample, index) => {
    checkSample(sample, index, input);
    const { inputIds, labels, images, position = index } = sample;
    const start = packed.ids.length;
    for (let t = 0; t < inputIds.length; t++) {
      const isImage = inputIds[t] === input.image?.tokenId;
      if (isImage) packed.imagePositions.push(start + t);
      // Features replace whatever is looked up there, and its gradient is 0.
      packed.ids.push(isImage ? 0 : inputIds[t]!);
      packed.positions.push(t);
      packed.records.push(position);
    }
    const views = images.reduce((sum, each) => sum + viewsIn(each, images.length, input.image!), 0);
    for (let k = 0; k < views; k++) {
      packed.imageRecords.push(position);
      packed.imageIndices.push(k);
    }
    for (const t of supervisedPositions(labels)) {
      packed.supervised.push(start + t);
      packed.targets.push(labels[t + 1]!);
    }
    packed.lengths.push(inputIds.length);
  });
  return packed;
}

function checkSample({ inputIds, labels, images }: Sample, index: number, input: InputFacts): void {
  const { vocabSize, image } = input;
  if (inputIds.length === 0) throw bad(index, 'it has no tokens', 'Leave it out.');
  if (labels.length !== inputIds.length) {
    throw bad(index, `${labels.length} labels for ${inputIds.length} tokens`, 'Give one for each.');
  }
  const known = (id: number): boolean => Number.isInteger(id) && id >= 0 && id < vocabSize;
  let imageTokens = 0;
  for (let t = 0; t < inputIds.length; t++) {
    const [id, label] = [inputIds[t]!, labels[t]!];
    if (id === image?.tokenId) imageTokens++;
    else if (!known(id)) throw bad(index, `token ${t} is ${id}`, vocabularyHint(vocabSize));
    if (label !== IGNORED_LABEL && !known(label)) {
      throw bad(index, `label ${t} is ${label}`, vocabularyHint(vocabSize));
    }
  }
  const of = images.length;
  images.forEach((pixels, i) => {
    if (image !== null) checkPixels(pixels, { name: `image ${i}`, of, index, image });
  });
  const tokens = image === null ? [] : images.map((pixels) => imageTokensOf(pixels, of, image));
  if (
    imageTokens !== tokens.reduce((sum, each) => sum + each, 0) ||
    images.length > tokens.length
  ) {
    const each = image?.tiles === undefined ? (image?.tokens ?? 0) : tokens.join(' + ');
    throw bad(
      index,
      `${imageTokens} image tokens for ${images.length} images of ${each}`,
      image === null ? 'This model takes no images.' : 'Give each image its tokens.',
    );
  }
}

interface PixelsPlace {
  readonly name: string;
  /** How many images its sample has. */
  readonly of: number;
  /** Of the sample. */
  readonly index: number;
  readonly image: ImageFacts;
}

function checkPixels(pixels: ImagePixels, { name, of, index, image }: PixelsPlace): void {
  const { size, tiles } = image;
  if (tiles !== undefined && !('views' in pixels)) {
    throw bad(index, `${name} comes without tiles`, 'Cut images as the model takes them.');
  }
  const views = viewsIn(pixels, of, image);
  const { length } = viewsOf(pixels);
  if (length === views * 3 * size ** 2) return;
  throw bad(
    index,
    `${name} has ${length} values, not ${tiles === undefined ? '' : `${views} x `}3 x ${size} x ${size}`,
    'Resize images to what the model takes.',
  );
}

/** Squares of pixels, one of them where pictures are not cut. */
type Views = Float32Array | Uint8Array;

function viewsOf(pixels: ImagePixels): Views {
  return 'views' in pixels ? pixels.views : pixels;
}

/** Of one of so many images of a sample. */
function viewsIn(pixels: ImagePixels, images: number, { tiles }: ImageFacts): number {
  return tiles === undefined || !('views' in pixels)
    ? 1
    : viewCount(pixels, tilesAmong(tiles, images));
}

/** Which features of all views the tokens of all pictures are; nothing where they do not come in tiles. */
function arrangementOf(samples: readonly Sample[], tiles: TileFacts | undefined): Arrangement {
  if (tiles === undefined) return { tokens: [], interpolations: [] };
  const pictures = samples.map(({ images }) => images as readonly TiledPixels[]);
  return arrange(pictures, tiles);
}

/** Bytes travel as they are and are looked up on the device, which is exact to the bit. */
function pixelValues(
  images: readonly Views[],
  { size, normaliseTable }: ImageFacts,
  device: Device,
): Tensor {
  return scope(() => {
    const values = images.reduce((sum, { length }) => sum + length, 0);
    const shape = [values / (3 * size ** 2), size, size, 3];
    if (!images.some((pixels) => pixels instanceof Uint8Array)) {
      const all = joined(images, new Float32Array(values));
      return sendTo(fromTypedArray(all, [shape[0]!, 3, size, size]), device);
    }
    if (normaliseTable === undefined) {
      throw new DataError('images come as bytes, and there is no table to normalise them', {
        code: 'E_SAMPLE',
        hint: 'Tell the model how its pictures are normalised (normaliseBy).',
      });
    }
    const bytes = joined(images, new Uint8Array(values));
    const placed = sendTo(fromTypedArray(bytes, shape), device).to('int32');
    const channels = tensor([0, 256, 512], { dtype: 'int32', device });
    const normalised = tensor(normaliseTable, { device }).indexSelect(
      0,
      placed.add(channels).flatten(),
    );
    return normalised.view(shape).permute([0, 3, 1, 2]);
  });
}

function joined<A extends Views>(images: readonly Views[], into: A): A {
  let at = 0;
  for (const pixels of images) {
    if (pixels instanceof Uint8Array !== into instanceof Uint8Array) {
      throw new DataError('some images of the batch come as bytes, others as normalised pixels', {
        code: 'E_SAMPLE',
        hint: 'Give all images of a batch in one form.',
      });
    }
    into.set(pixels, at);
    at += pixels.length;
  }
  return into;
}

function vocabularyHint(vocabSize: number): string {
  return `Use the model's own tokenizer; ids go from 0 to ${vocabSize - 1}.`;
}

function bad(index: number, reason: string, hint: string): DataError {
  return new DataError(`sample ${index} of the batch: ${reason}`, { code: 'E_SAMPLE', hint });
}
