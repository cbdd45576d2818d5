/** How pictures are prepared, as transformers' `LlavaProcessor` reads it. */
import { DataError } from '../../base/errors.js';
import { isJsonObject } from '../../formats/strict-json.js';
import type { LlavaConfig } from '../configs/llava-config.js';
import type { Json } from './model-json.js';
import { readJson } from './small-files.js';

/** CLIP's own numbers: what transformers takes where a file names none. */
const CLIP = {
  do_center_crop: true,
  do_convert_rgb: true,
  do_normalize: true,
  do_rescale: true,
  do_resize: true,
  image_mean: [0.48145466, 0.4578275, 0.40821073],
  image_std: [0.26862954, 0.26130258, 0.27577711],
  resample: 3,
  rescale_factor: 1 / 255,
} as const;

/** The image processor of a folder: inside `processor_config.json`, or in `preprocessor_config.json`. */
export async function readImageProcessor(folder: string): Promise<Json | undefined> {
  const inside = (await readJson(folder, 'processor_config.json'))?.['image_processor'];
  return isJsonObject(inside) ? { ...inside } : readJson(folder, 'preprocessor_config.json');
}

/**
 * Every field written out, from what a file says.
 *
 * @param where the folder that `found` comes from
 * @throws DataError `E_IMAGE_PROCESSOR` where its pictures do not fit the tower
 */
export function imageProcessor(
  found: Json | undefined,
  where: string,
  { vision }: LlavaConfig,
): Json {
  const side = vision.imageSize;
  const json: Json = { ...CLIP };
  for (const field of Object.keys(CLIP))
    if (found?.[field] !== undefined) json[field] = found[field];
  const size = found?.['size'] ?? side;
  const crop = found?.['crop_size'] ?? side;
  json['size'] = typeof size === 'number' ? { shortest_edge: size } : size;
  json['crop_size'] = typeof crop === 'number' ? { height: crop, width: crop } : crop;
  json['image_processor_type'] = 'CLIPImageProcessor';
  const result = json[json['do_center_crop'] === false ? 'size' : 'crop_size'];
  const fits = isJsonObject(result) && result['height'] === side && result['width'] === side;
  if (fits) return json;
  throw new DataError(
    `${where}: its image processor makes pictures of ${JSON.stringify(result)}, the vision tower takes ${side} x ${side} pixels.`,
    {
      code: 'E_IMAGE_PROCESSOR',
      hint: 'Name the folder of the vision tower that the model was trained with (--vision).',
    },
  );
}

/** `processor_config.json`: the number of image tokens follows from patch size and strategy. */
export function processorConfig(image: Json, imageToken: string, config: LlavaConfig): Json {
  return {
    image_processor: image,
    image_token: imageToken,
    num_additional_image_tokens: 1, // the class token, which `default` drops
    patch_size: config.vision.patchSize,
    processor_class: 'LlavaProcessor',
    vision_feature_select_strategy: config.projector.select,
  };
}
