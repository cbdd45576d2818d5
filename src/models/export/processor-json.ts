/** transformers' `processor_config.json`: what tells its processors how many image tokens a picture takes. */
import { join } from 'node:path';

import { isJsonObject } from '../../formats/strict-json.js';
import { type JsonObject, readJsonObject } from '../../formats/small-file.js';
import type { ImageProcessor } from '../configs/image-processor.js';
import type { LlavaConfig } from '../configs/llava-config.js';
import { aspectField, TILED_FAMILIES, tiledFamilyOf } from '../configs/tiles-config.js';
import { VISION_FAMILIES } from '../configs/vision-families.js';
import type { Assembly } from '../load/assemble.js';
import type { Json } from './model-json.js';

/** What a LLaVA-OneVision's processor says about videos, which Patina hands on without computing them. */
export interface VideoFields {
  /** Its `video_processor`, without which transformers does not load it. @default one like that of pictures */
  readonly processor?: JsonObject | undefined;
  /** @default `<video>` */
  readonly token?: string | undefined;
}

/** The number of image tokens follows from patch size and strategy, or from the features of a view. */
export function processorConfig(
  image: ImageProcessor,
  imageToken: string,
  { vision, projector, tiles }: LlavaConfig,
  { processor, token = '<video>' }: VideoFields = {},
): Json {
  // Which `default` drops.
  const classTokens = VISION_FAMILIES[vision.family].classToken ? 1 : 0;
  const common = {
    image_processor: image.json,
    image_token: imageToken,
    processor_class: `${tiles === null ? 'Llava' : TILED_FAMILIES[tiledFamilyOf(tiles)].stem}Processor`,
    vision_feature_select_strategy: projector.select,
  };
  return tiles?.max === undefined
    ? { ...common, num_additional_image_tokens: classTokens, patch_size: vision.patchSize }
    : {
        ...common,
        ...aspectField(tiles.max),
        num_image_tokens: tiles.patches ** 2 + classTokens,
        video_processor: processor ?? usualVideoProcessor(image),
        video_token: token,
      };
}

/** The video processor of the first of a model's folders that has one, in the order of transformers. */
export async function findVideoProcessor({
  sources,
}: Pick<Assembly, 'sources'>): Promise<JsonObject | undefined> {
  for (const { path } of sources) {
    const inside = (await readJsonObject(join(path, 'processor_config.json')))?.['video_processor'];
    if (isJsonObject(inside)) return inside;
    const alone = await readJsonObject(join(path, 'video_preprocessor_config.json'));
    if (alone !== undefined) return alone;
  }
  return undefined;
}

/** Frames prepared as pictures are, as transformers' class does where nothing else is said. */
function usualVideoProcessor({ json }: ImageProcessor): Json {
  const { do_convert_rgb, do_normalize, do_rescale, do_resize } = json;
  const { image_mean, image_std, resample, rescale_factor, size } = json;
  return {
    ...{ do_convert_rgb, do_normalize, do_rescale, do_resize },
    ...{ image_mean, image_std, resample, rescale_factor, size },
    do_sample_frames: false,
    return_metadata: false,
    video_processor_type: 'LlavaOnevisionVideoProcessor',
  };
}
