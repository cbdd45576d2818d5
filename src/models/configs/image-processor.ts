/**
 * How pictures are prepared, as transformers' image processors (`CLIPImageProcessor`, `LlavaImageProcessor`) write it. The second is
 * the first with `do_pad`: pictures become squares in the colour of the mean before they are resized, as LLaVA's authors do it.
 */
import { z } from 'zod';

import {
  type ConfigSource,
  configError,
  expectOneOf,
  jsonObject,
  or,
  readFields,
} from './read-config.js';

/** One value for red, green and blue each. */
type Rgb = readonly [red: number, green: number, blue: number];

/** Settings of pictures that fit a vision tower. */
export interface ImageProcessor {
  /** What says so, for messages. */
  readonly file: string;
  /** transformers' fields, every one written out. */
  readonly json: Readonly<Record<string, unknown>>;
  /**
   * How pictures become squares: padded; resized by the shorter side and cropped; or squeezed, which Patina does not.
   */
  readonly mode: 'pad' | 'crop' | 'squeeze';
  readonly mean: Rgb;
  readonly std: Rgb;
  readonly rescaleFactor: number;
}

/** What transformers takes where a file names no value: CLIP's own. */
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

const rgb = (each: z.ZodNumber) => z.tuple([each, each, each]);
const sides = z.union([z.number(), jsonObject]);
const SCHEMA = z.object({
  do_center_crop: or(z.boolean(), CLIP.do_center_crop),
  do_convert_rgb: or(z.boolean(), CLIP.do_convert_rgb),
  do_normalize: or(z.boolean(), CLIP.do_normalize),
  do_pad: or(z.boolean(), false),
  do_rescale: or(z.boolean(), CLIP.do_rescale),
  do_resize: or(z.boolean(), CLIP.do_resize),
  image_mean: or(rgb(z.number()), CLIP.image_mean),
  image_std: or(rgb(z.number().positive()), CLIP.image_std),
  resample: or(z.number(), CLIP.resample),
  rescale_factor: or(z.number().positive(), CLIP.rescale_factor),
  size: or(sides, null),
  crop_size: or(sides, null),
});

/**
 * The settings of an image processor's file.
 *
 * @param side pixels that the vision tower takes
 * @throws ConfigError `E_CONFIG`, also where its pictures do not fit the tower
 */
export function readImageProcessor(source: ConfigSource, side: number): ImageProcessor {
  const { do_pad: pads, size, crop_size: crop, ...fields } = readFields(source, SCHEMA);
  const json = {
    ...fields,
    ...(pads && { do_pad: true }),
    image_processor_type: pads ? 'LlavaImageProcessor' : 'CLIPImageProcessor',
    size: isNumber(size) ? { shortest_edge: size } : (size ?? { shortest_edge: side }),
    crop_size: isNumber(crop) ? square(crop) : (crop ?? square(side)),
  };
  const field = fields.do_center_crop ? 'crop_size' : 'size';
  const made: Readonly<Record<string, unknown>> = json[field];
  const isSide = made['height'] === side && made['width'] === side;
  if (!isSide && !(pads && !fields.do_center_crop && made['shortest_edge'] === side)) {
    throw configError(
      source,
      field,
      `it makes pictures of ${JSON.stringify(made)}, the vision tower takes ${side} x ${side} pixels`,
      'Name the folder of the vision tower that the model was trained with (--vision).',
    );
  }
  return {
    file: source.file,
    json,
    mode: pads ? 'pad' : fields.do_center_crop ? 'crop' : 'squeeze',
    mean: fields.image_mean,
    std: fields.image_std,
    rescaleFactor: fields.rescale_factor,
  };
}

/** CLIP's settings, where no file has any; pictures are padded, as LLaVA and XTuner train. */
export function clipImageProcessor(side: number): ImageProcessor {
  return inMode(readImageProcessor({ file: 'CLIP', json: {} }, side), 'pad');
}

/** The same settings with another way to squares. */
export function inMode(processor: ImageProcessor, mode: 'pad' | 'crop'): ImageProcessor {
  const json: Record<string, unknown> = {
    ...processor.json,
    do_center_crop: true,
    image_processor_type: mode === 'pad' ? 'LlavaImageProcessor' : 'CLIPImageProcessor',
  };
  delete json['do_pad']; // as transformers writes it where nothing is padded
  if (mode === 'pad') json['do_pad'] = true;
  if (processor.mode === 'squeeze') {
    json['size'] = { shortest_edge: (json['size'] as { height: number }).height };
  }
  return { ...processor, mode, json };
}

/**
 * Refuses what Patina does not compute: pictures are resized by Pillow's bicubic filter so that the shorter side fits, scaled and
 * normalised.
 *
 * @throws ConfigError `E_CONFIG`
 */
export function expectComputable(
  processor: ImageProcessor,
  side: number,
): asserts processor is ImageProcessor & { readonly mode: 'pad' | 'crop' } {
  const { file, json, mode } = processor;
  const source = { file, json };
  for (const field of ['do_resize', 'do_rescale', 'do_normalize']) {
    expectOneOf(source, field, [true], 'leaves out a step that Patina takes with every picture');
  }
  expectOneOf(source, 'resample', [3], 'is another filter than bicubic (3)');
  if (mode === 'squeeze') {
    const hint = 'Choose how pictures become squares: pad or crop.';
    throw configError(source, 'do_center_crop', 'pictures are squeezed into squares', hint);
  }
  const { shortest_edge: short, height, width } = json['size'] as Record<string, unknown>;
  const fits = short === side || (mode === 'pad' && height === side && width === side);
  if (fits) return;
  const hint = 'Correct the field: Patina resizes pictures to what the vision tower takes.';
  throw configError(source, 'size', `the vision tower takes ${side} x ${side} pixels`, hint);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number';
}

function square(side: number): Readonly<Record<string, number>> {
  return { height: side, width: side };
}
