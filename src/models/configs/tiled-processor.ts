/** How pictures are prepared in tiles, as transformers' `LlavaNextImageProcessor` and `LlavaOnevisionImageProcessor` write it. */
import { isJsonObject } from '../../formats/strict-json.js';
import type { TileFacts } from '../tiles.js';
import {
  expectComputable,
  type ImageProcessor,
  inMode,
  type PictureTower,
  readImageProcessor,
  usualImageProcessor,
} from './image-processor.js';
import { type ConfigSource, configError } from './read-config.js';
import {
  PINPOINTS_FIELD,
  pinpointsField,
  readPinpoints,
  TILED_FAMILIES,
  tiledFamilyOf,
} from './tiles-config.js';

/**
 * Views are squares of the tower's size from the start: nothing of them is left for `crop` to take off, nor for `squeeze` to fit; one of
 * the two is how the family's class writes it.
 */
export type TiledProcessor = ImageProcessor & { readonly mode: 'crop' | 'squeeze' };

/**
 * The settings of an image processor's file.
 *
 * @param tiles as the model's configuration says
 * @throws ConfigError `E_CONFIG`, also where it cuts other tiles than the model takes, or takes steps that Patina does not compute
 */
export function readTiledProcessor(source: ConfigSource, tiles: TileFacts): TiledProcessor {
  const json = source.json as Record<string, unknown>;
  if (
    JSON.stringify(readPinpoints(source, tiledFamilyOf(tiles))) !== JSON.stringify(tiles.pinpoints)
  ) {
    const reason = 'it lists other resolutions than the configuration of the model';
    const hint = 'Make the two lists the same: transformers counts image tokens by both.';
    throw configError(source, PINPOINTS_FIELD, reason, hint);
  }
  const { size } = tiles;
  // A LLaVA-OneVision cuts tiles of `crop_size`, whether it crops or not.
  const isUncropped = json['do_center_crop'] === false && tiles.max === undefined;
  for (const field of isUncropped ? ['size'] : ['size', 'crop_size']) {
    const given = json[field] ?? size;
    if (sidesOf(given).every((side) => side === size)) continue;
    const reason = `it makes views of ${JSON.stringify(given)}, the vision tower takes ${size} x ${size} pixels`;
    throw configError(source, field, reason);
  }
  const square = { height: size, width: size };
  const one =
    modeOf(tiles) === 'crop'
      ? { do_pad: false, do_center_crop: true, size, crop_size: size }
      : { do_pad: false, do_center_crop: false, size: square, crop_size: null };
  return tiled(readImageProcessor({ ...source, json: { ...json, ...one } }, size), tiles);
}

/** Those of the tower, where no file has any. */
export function usualTiledProcessor(tiles: TileFacts, tower: PictureTower): TiledProcessor {
  return tiled(inMode(usualImageProcessor(tower), modeOf(tiles)), tiles);
}

function modeOf({ max }: TileFacts): TiledProcessor['mode'] {
  return max === undefined ? 'crop' : 'squeeze';
}

function tiled(processor: ImageProcessor, tiles: TileFacts): TiledProcessor {
  const square = { ...processor, mode: modeOf(tiles) };
  expectComputable(square, tiles.size);
  return {
    ...square,
    json: {
      ...processor.json,
      // Of batches, with views that the model leaves out again.
      do_pad: true,
      ...pinpointsField(tiles.pinpoints),
      image_processor_type: `${TILED_FAMILIES[tiledFamilyOf(tiles)].stem}ImageProcessor`,
    },
  };
}

function sidesOf(given: unknown): unknown[] {
  if (!isJsonObject(given)) return [given];
  const { shortest_edge: shortest, height, width } = given;
  return shortest === undefined ? [height, width] : [shortest];
}
