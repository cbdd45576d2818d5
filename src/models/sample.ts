/**
 * What a model takes: samples of tokens, labels and pixels, within its limits. Nothing here needs libtorch, so that threads which
 * only read data can do without it.
 */

import {
  type PictureSize,
  tilesAmong,
  type TiledPixels,
  type TileFacts,
  tiledTokens,
  wholeTokens,
} from './tiles.js';

/** The label of a token that is not to be predicted; LLaVA's `IGNORE_INDEX`. */
export const IGNORED_LABEL = -100;

/** Stands for one picture among ids, until as many image tokens as it has features do; LLaVA's `IMAGE_TOKEN_INDEX`. */
export const IMAGE_ID = -200;

/** Stands for one picture in text. */
export const IMAGE_PLACEHOLDER = '<image>';

/** One conversation, tokenised. */
export interface Sample {
  /** Token ids; each picture stands as as many image tokens as it has features. */
  readonly inputIds: ArrayLike<number>;
  /** For each position its own token, or {@link IGNORED_LABEL}; position t learns to predict the label of t + 1. */
  readonly labels: ArrayLike<number>;
  /** In the order of their places. */
  readonly images: readonly ImagePixels[];
  /** Among the records of its effective batch, which dropout masks depend on. @default its index in the batch */
  readonly position?: number;
}

/** Normalised pixels (3, S, S), or bytes (S, S, 3) that are normalised on the device; several such where the model takes tiles. */
export type ImagePixels = Float32Array | Uint8Array | TiledPixels;

/** What a model takes: the limits that `makeBatch` checks on the host. */
export interface InputFacts {
  readonly vocabSize: number;
  /** `null` for a model without a vision tower. */
  readonly image: ImageFacts | null;
}

export interface ImageFacts {
  /** The id that stands for one feature of a picture. */
  readonly tokenId: number;
  /** Features of one picture; where it comes in tiles, the most there can be. */
  readonly tokens: number;
  /** Pixels along each side. */
  readonly size: number;
  /** How pictures are cut. @default none is: each is seen as one square */
  readonly tiles?: TileFacts | undefined;
  /** Normalised value of byte b in channel c at 256 c + b; needed where pictures come as bytes. */
  readonly normaliseTable?: Float32Array;
}

/** Tokens that one of so many pictures of a sample takes, the most there can be where its size is not known yet. */
export function imageTokensOf(
  picture: ImagePixels | PictureSize | undefined,
  pictures: number,
  { tokens, tiles }: Pick<ImageFacts, 'tokens' | 'tiles'>,
): number {
  if (tiles === undefined) return tokens;
  const facts = tilesAmong(tiles, pictures);
  if (picture !== undefined && 'height' in picture) return tiledTokens(picture, facts);
  return facts.pinpoints.length === 0 ? wholeTokens(facts) : tokens;
}
