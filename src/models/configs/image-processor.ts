/**
 * How pictures are prepared, as transformers' image processors write it. `CLIPImageProcessor` fits the shorter side and crops;
 * `LlavaImageProcessor` is the same with `do_pad`: pictures become squares in the colour of the mean before they are resized, as
 * LLaVA's authors do it; `SiglipImageProcessor` resizes both sides to the square, whatever their proportions.
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
import type { VisionConfig } from './vision-config.js';
import { VISION_FAMILIES, type VisionFamily } from './vision-families.js';

/** One value for red, green and blue each. */
type Rgb = readonly [red: number, green: number, blue: number];

/** How pictures become squares: padded; resized by the shorter side and cropped; or squeezed, both sides resized. */
export type ImageMode = 'pad' | 'crop' | 'squeeze';

/** The tower that pictures are for: its family, and the pixels that it takes along a side. */
export type PictureTower = Pick<VisionConfig, 'family' | 'imageSize'>;

/** Settings of pictures that fit a vision tower. */
export interface ImageProcessor {
  /** What says so, for messages. */
  readonly file: string;
  /** transformers' fields, every one written out. */
  readonly json: Readonly<Record<string, unknown>>;
  readonly mode: ImageMode;
  readonly mean: Rgb;
  readonly std: Rgb;
  readonly rescaleFactor: number;
}

/** What transformers takes where a file names no value. */
const DEFAULTS = {
  clip: {
    do_center_crop: true,
    image_mean: [0.48145466, 0.4578275, 0.40821073],
    image_std: [0.26862954, 0.26130258, 0.27577711],
  },
  siglip: { do_center_crop: false, image_mean: [0.5, 0.5, 0.5], image_std: [0.5, 0.5, 0.5] },
} as const satisfies Record<VisionFamily, unknown>;

/** The class that writes each way to squares. */
const CLASSES: Readonly<Record<ImageMode, string>> = {
  pad: 'LlavaImageProcessor',
  crop: 'CLIPImageProcessor',
  squeeze: 'SiglipImageProcessor',
};

const rgb = (each: z.ZodNumber) => z.tuple([each, each, each]);
const sides = z.union([z.number(), jsonObject]);
const schemaOf = (family: VisionFamily) => {
  const defaults = DEFAULTS[family];
  return z.object({
    do_center_crop: or(z.boolean(), defaults.do_center_crop),
    do_convert_rgb: or(z.boolean(), true),
    do_normalize: or(z.boolean(), true),
    do_pad: or(z.boolean(), false),
    do_rescale: or(z.boolean(), true),
    do_resize: or(z.boolean(), true),
    image_mean: or(rgb(z.number()), defaults.image_mean),
    image_std: or(rgb(z.number().positive()), defaults.image_std),
    resample: or(z.number(), 3),
    rescale_factor: or(z.number().positive(), 1 / 255),
    size: or(sides, null),
    crop_size: or(sides, null),
  });
};
const SCHEMAS = { clip: schemaOf('clip'), siglip: schemaOf('siglip') };

const TYPE = z.object({ image_processor_type: or(z.string(), '') });

/**
 * The settings of an image processor's file.
 *
 * @param side pixels that the vision tower takes
 * @throws ConfigError `E_CONFIG`, also where its pictures do not fit the tower
 */
export function readImageProcessor(source: ConfigSource, side: number): ImageProcessor {
  const type = readFields(source, TYPE).image_processor_type;
  const family = type.startsWith('Siglip') ? 'siglip' : 'clip';
  const { do_pad: pads, size, crop_size: crop, ...fields } = readFields(source, SCHEMAS[family]);
  const { do_center_crop: crops, ...others } = fields;
  const mode = pads ? 'pad' : crops ? 'crop' : 'squeeze';
  const usual = family === 'siglip' ? square(side) : { shortest_edge: side };
  const json = {
    ...others,
    ...(mode !== 'squeeze' && {
      do_center_crop: crops,
      crop_size: isNumber(crop) ? square(crop) : (crop ?? square(side)),
    }),
    ...(pads && { do_pad: true }),
    image_processor_type: CLASSES[mode],
    size: isNumber(size) ? { shortest_edge: size } : (size ?? usual),
  };
  const field = crops ? 'crop_size' : 'size';
  const made = json[field] as Readonly<Record<string, unknown>>;
  const isSide = made['height'] === side && made['width'] === side;
  if (!isSide && !(pads && !crops && made['shortest_edge'] === side)) {
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
    mode,
    mean: fields.image_mean,
    std: fields.image_std,
    rescaleFactor: fields.rescale_factor,
  };
}

/** The settings that a tower was trained with, where no file has any; for CLIP pictures are padded, as LLaVA and XTuner train. */
export function usualImageProcessor({ family, imageSize }: PictureTower): ImageProcessor {
  const [own, mode] =
    family === 'clip' ? (['crop', 'pad'] as const) : (['squeeze', 'squeeze'] as const);
  const json = { image_processor_type: CLASSES[own] };
  return inMode(readImageProcessor({ file: VISION_FAMILIES[family].title, json }, imageSize), mode);
}

/** The same settings with another way to squares. */
export function inMode(processor: ImageProcessor, mode: ImageMode): ImageProcessor {
  const { size, crop_size: crop } = processor.json;
  const side = sideOf(crop) ?? sideOf(size)!;
  const json: Record<string, unknown> = {
    ...processor.json,
    image_processor_type: CLASSES[mode],
  };
  // As transformers writes it: no fields of a step that is not taken.
  delete json['do_pad'];
  delete json['do_center_crop'];
  delete json['crop_size'];
  if (mode === 'squeeze') return { ...processor, mode, json: { ...json, size: square(side) } };
  json['do_center_crop'] = true;
  json['crop_size'] = crop ?? square(side);
  if (processor.mode === 'squeeze') json['size'] = { shortest_edge: side };
  if (mode === 'pad') json['do_pad'] = true;
  return { ...processor, mode, json };
}

/**
 * Refuses what Patina does not compute: pictures are resized by Pillow's bicubic filter so that the shorter side fits, or both do,
 * scaled and normalised.
 *
 * @throws ConfigError `E_CONFIG`
 */
export function expectComputable({ file, json, mode }: ImageProcessor, side: number): void {
  const source = { file, json };
  for (const field of ['do_resize', 'do_rescale', 'do_normalize']) {
    expectOneOf(source, field, [true], 'leaves out a step that Patina takes with every picture');
  }
  expectOneOf(source, 'resample', [3], 'is another filter than bicubic (3)');
  const { shortest_edge: short, height, width } = json['size'] as Record<string, unknown>;
  const isSquare = height === side && width === side;
  if (mode === 'squeeze' ? isSquare : short === side || (mode === 'pad' && isSquare)) return;
  const hint = 'Correct the field: Patina resizes pictures to what the vision tower takes.';
  throw configError(source, 'size', `the vision tower takes ${side} x ${side} pixels`, hint);
}

function isNumber(value: unknown): value is number {
  return typeof value === 'number';
}

function square(side: number): Readonly<Record<string, number>> {
  return { height: side, width: side };
}

/** Pixels along the shorter side of what a field makes. */
function sideOf(field: unknown): number | undefined {
  const { height, shortest_edge: short } = (field ?? {}) as Record<string, number | undefined>;
  return height ?? short;
}
