/** How a LLaVA-NeXT takes pictures in tiles: the fields of transformers' `LlavaNextConfig` and of its image processor. */
import { z } from 'zod';

import type { PictureSize, TileFacts } from '../tiles.js';
import type { VisionConfig } from './vision-config.js';
import { configError, type ConfigSource, or, readFields, size } from './read-config.js';

/** What transformers takes where a file names none: those of the tower of 336 pixels. */
const DEFAULT_PINPOINTS: readonly (readonly [height: number, width: number])[] = [
  [336, 672],
  [672, 336],
  [672, 672],
  [1008, 336],
  [336, 1008],
];

export const PINPOINTS_FIELD = 'image_grid_pinpoints';
const SCHEMA = z.object({
  [PINPOINTS_FIELD]: or(z.array(z.tuple([size, size])).min(1), DEFAULT_PINPOINTS),
});

/** The resolutions that a model's or an image processor's file lists. @throws ConfigError `E_CONFIG` */
export function readPinpoints(source: ConfigSource): PictureSize[] {
  return readFields(source, SCHEMA)[PINPOINTS_FIELD].map(([height, width]) => ({ height, width }));
}

/** The field as transformers writes it. */
export function pinpointsField(pinpoints: readonly PictureSize[]): Record<string, unknown> {
  return { [PINPOINTS_FIELD]: pinpoints.map(({ height, width }) => [height, width]) };
}

/** @throws ConfigError `E_CONFIG`, also for resolutions that are not of whole tiles */
export function readTiles(
  source: ConfigSource,
  { imageSize, patchSize }: Pick<VisionConfig, 'imageSize' | 'patchSize'>,
): TileFacts {
  const pinpoints = readPinpoints(source);
  const ragged = pinpoints.find(
    ({ height, width }) => height % imageSize !== 0 || width % imageSize !== 0,
  );
  if (ragged !== undefined) {
    const { height, width } = ragged;
    const reason = `${height} x ${width} pixels are not of whole tiles of ${imageSize} x ${imageSize}, what the vision tower takes`;
    throw configError(source, PINPOINTS_FIELD, reason);
  }
  return { pinpoints, size: imageSize, patches: Math.floor(imageSize / patchSize) };
}
