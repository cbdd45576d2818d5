/** How pictures are prepared for a model that is put together from several folders: what lies on top counts. */
import { dirname, join } from 'node:path';

import { isJsonObject } from '../../formats/strict-json.js';
import {
  type ImageProcessor,
  inMode,
  type PictureTower,
  readImageProcessor,
  usualImageProcessor,
} from '../configs/image-processor.js';
import { isOfficialConfig } from '../configs/llava-config.js';
import { configError, type ConfigSource } from '../configs/read-config.js';
import {
  readTiledProcessor,
  type TiledProcessor,
  usualTiledProcessor,
} from '../configs/tiled-processor.js';
import { ASPECT_FIELD, readAspect } from '../configs/tiles-config.js';
import type { TileFacts } from '../tiles.js';
import type { Assembly } from './assemble.js';
import { readConfigFile } from './config-file.js';

/**
 * The image processor of a folder, or of the first of a model's folders that has one. LLaVA's authors say in `config.json` whether
 * pictures are padded (`image_aspect_ratio`), which counts for the tower beneath. Where nothing is said they are padded for CLIP.
 *
 * @param tower which takes them
 * @throws ConfigError `E_CONFIG`; DataError `E_JSON`
 */
export async function findImageProcessor(
  where: string | Pick<Assembly, 'sources' | 'configs'>,
  tower: PictureTower,
): Promise<ImageProcessor & { readonly isFound: boolean }> {
  const { sources, configs } =
    typeof where === 'string' ? { sources: [{ path: where }], configs: [] } : where;
  const official = configs.find(({ json }) => isOfficialConfig(json));
  let ratio: unknown;
  for (const { path } of sources) {
    // Beside a projector's file lies the configuration of its model.
    if (official !== undefined && [path, dirname(path)].includes(dirname(official.file))) {
      ratio = official.json['image_aspect_ratio'] ?? 'square';
    }
    const source = await imageProcessorIn(path);
    if (source === undefined) continue;
    const found = readImageProcessor(source, tower.imageSize);
    return { ...(ratio === 'pad' ? inMode(found, 'pad') : found), isFound: true };
  }
  const usual = usualImageProcessor(tower);
  // What is no longer padded is cropped, by CLIP; SigLIP squeezes it anyway.
  const square = usual.mode === 'pad' ? 'crop' : usual.mode;
  const mode = ratio === 'square' ? square : ratio === 'pad' ? 'pad' : usual.mode;
  return { ...inMode(usual, mode), isFound: false };
}

/**
 * The image processor of a model that takes tiles, likewise; where there is none, that of its configuration.
 *
 * @param tiles as the model's configuration says
 * @throws ConfigError `E_CONFIG`, also where it cuts other tiles than the model takes, or counts by another limit; DataError `E_JSON`
 */
export async function findTiledProcessor(
  where: string | Pick<Assembly, 'sources' | 'configs'>,
  tiles: TileFacts,
  tower: PictureTower,
): Promise<TiledProcessor & { readonly isFound: boolean }> {
  const sources = typeof where === 'string' ? [{ path: where }] : where.sources;
  for (const { path } of sources) {
    const source = await imageProcessorIn(path);
    if (source === undefined) continue;
    await expectSameLimit(path, tiles);
    return { ...readTiledProcessor(source, tiles), isFound: true };
  }
  return { ...usualTiledProcessor(tiles, tower), isFound: false };
}

/** The processor around an image processor counts tokens; of a LLaVA-OneVision by a limit of its own, if it names one. */
async function expectSameLimit(folder: string, { max }: TileFacts): Promise<void> {
  const whole = await readConfigFile(join(folder, 'processor_config.json'));
  if (max === undefined || whole === undefined || readAspect(whole) === max) return;
  const reason = `the configuration of the model says "anyres_max_${max}"`;
  const hint =
    'Make the two the same: transformers counts image tokens by one and makes them by the other.';
  throw configError(whole, ASPECT_FIELD, reason, hint);
}

/** In the order of transformers: within the processor's file, then in a file of its own. */
export async function imageProcessorIn(folder: string): Promise<ConfigSource | undefined> {
  const field = 'image_processor';
  const whole = await readConfigFile(join(folder, 'processor_config.json'));
  const inside = whole?.json[field];
  if (whole !== undefined && isJsonObject(inside)) return { file: whole.file, field, json: inside };
  return readConfigFile(join(folder, 'preprocessor_config.json'));
}
