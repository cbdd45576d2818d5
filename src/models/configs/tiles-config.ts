/** How a LLaVA takes pictures in tiles: the fields of transformers' `LlavaNextConfig`, `LlavaOnevisionConfig` and their image processors. */
import { z } from 'zod';

import type { PictureSize, TileFacts } from '../tiles.js';
import type { VisionConfig } from './vision-config.js';
import { configError, type ConfigSource, or, readFields, size } from './read-config.js';

type Pinpoint = readonly [height: number, width: number];

/** The LLaVAs that take tiles, by their `model_type`. */
export type TiledFamily = 'llava_next' | 'llava_onevision';

export interface TiledRow {
  /** What its classes in transformers begin with. */
  readonly stem: string;
  /** Resolutions where a file names none. */
  readonly pinpoints: readonly Pinpoint[];
}

/** Tiles along a side of a LLaVA-OneVision's pictures, at most. */
const SIX = [1, 2, 3, 4, 5, 6];

export const TILED_FAMILIES: Readonly<Record<TiledFamily, TiledRow>> = {
  llava_next: {
    stem: 'LlavaNext',
    pinpoints: [
      [336, 672],
      [672, 336],
      [672, 672],
      [1008, 336],
      [336, 1008],
    ],
  },
  llava_onevision: {
    stem: 'LlavaOnevision',
    pinpoints: SIX.flatMap((rows) => SIX.map((columns): Pinpoint => [384 * rows, 384 * columns])),
  },
};

/** Whose facts these are: a LLaVA-NeXT has no limit. */
export function tiledFamilyOf({ max }: Pick<TileFacts, 'max'>): TiledFamily {
  return max === undefined ? 'llava_next' : 'llava_onevision';
}

export const PINPOINTS_FIELD = 'image_grid_pinpoints';

/** The resolutions that a model's or an image processor's file lists. @throws ConfigError `E_CONFIG` */
export function readPinpoints(source: ConfigSource, family: TiledFamily): PictureSize[] {
  const { pinpoints } = TILED_FAMILIES[family];
  const schema = z.object({
    [PINPOINTS_FIELD]: or(z.array(z.tuple([size, size])).min(1), pinpoints),
  });
  return readFields(source, schema)[PINPOINTS_FIELD].map(([height, width]) => ({ height, width }));
}

/** The field as transformers writes it. */
export function pinpointsField(pinpoints: readonly PictureSize[]): Record<string, unknown> {
  return { [PINPOINTS_FIELD]: pinpoints.map(({ height, width }) => [height, width]) };
}

export const ASPECT_FIELD = 'vision_aspect_ratio';
const ASPECT = z.object({ [ASPECT_FIELD]: or(z.string(), 'anyres_max_9') });

/** N of the `anyres_max_N` that a LLaVA-OneVision's file names. @throws ConfigError `E_CONFIG` for any other way */
export function readAspect(source: ConfigSource): number {
  const given = readFields(source, ASPECT)[ASPECT_FIELD];
  const [, max] = /^anyres_max_([1-9]\d{0,5})$/.exec(given) ?? [];
  if (max !== undefined) return Number(max);
  const reason = `"${given}" is no "anyres_max_N", the only form that transformers computes`;
  throw configError(source, ASPECT_FIELD, reason);
}

/** The field as transformers writes it. */
export function aspectField(max: number): Record<string, unknown> {
  return { [ASPECT_FIELD]: `anyres_max_${max}` };
}

/** @throws ConfigError `E_CONFIG`, also for resolutions that are not of whole tiles */
export function readTiles(
  source: ConfigSource,
  family: TiledFamily,
  { imageSize, patchSize }: Pick<VisionConfig, 'imageSize' | 'patchSize'>,
): TileFacts {
  const pinpoints = readPinpoints(source, family);
  const ragged = pinpoints.find(
    ({ height, width }) => height % imageSize !== 0 || width % imageSize !== 0,
  );
  if (ragged !== undefined) {
    const { height, width } = ragged;
    const reason = `${height} x ${width} pixels are not of whole tiles of ${imageSize} x ${imageSize}, what the vision tower takes`;
    throw configError(source, PINPOINTS_FIELD, reason);
  }
  const facts = { pinpoints, size: imageSize, patches: Math.floor(imageSize / patchSize) };
  if (family === 'llava_next') return facts;
  const max = readAspect(source);
  const line = Math.max(...pinpoints.flatMap(({ height, width }) => [height, width])) / imageSize;
  if (line > max * facts.patches) {
    const reason = `${line} tiles in a line are so many more than ${max} that no feature of a narrow picture would be left`;
    throw configError(source, PINPOINTS_FIELD, reason);
  }
  return { ...facts, max };
}
