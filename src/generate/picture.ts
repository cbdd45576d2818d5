/** Pictures as a model takes them: the settings that lie beside its weights, as transformers' image processors write them. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { z } from 'zod';

import { DataError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';
import type { FitMode, FitOptions } from '../data/image/fit.js';
import { CLIP_MEAN, CLIP_STD, meanColour, normaliseTable } from '../data/image/normalise.js';

export interface PictureSettings extends FitOptions {
  readonly background: readonly [red: number, green: number, blue: number];
  /** Normalised value of byte b in channel c at 256 c + b. */
  readonly normaliseTable: Float32Array;
}

export interface PictureOptions {
  /** Pixels of a side, which the model decides. */
  size: number;
  /** @default what the folder says, else `pad` */
  mode?: FitMode | undefined;
}

const rgb = z.tuple([z.number(), z.number(), z.number()]);
const processorShape = z.looseObject({
  do_center_crop: z.boolean().nullish(),
  do_pad: z.boolean().nullish(),
  image_mean: rgb.nullish(),
  image_std: rgb.nullish(),
  rescale_factor: z.number().nullish(),
});
/** Processors of transformers lie in the first file, those of its fifth version within the second. */
const fileShapes: [name: string, shape: z.ZodType<{ image?: Processor | undefined }>][] = [
  ['preprocessor_config.json', processorShape.transform((image) => ({ image }))],
  [
    'processor_config.json',
    z
      .looseObject({ image_processor: processorShape.optional() })
      .transform(({ image_processor: image }) => ({ image })),
  ],
];
type Processor = z.infer<typeof processorShape>;

/**
 * Settings of the pictures for a model in `folder`: CLIP's, padded to a square, unless the folder says otherwise.
 *
 * @throws DataError `E_PROCESSOR` for a file that is no such settings
 */
export async function readPictureSettings(
  folder: string,
  { size, mode }: PictureOptions,
): Promise<PictureSettings> {
  const processor = await readProcessor(folder);
  const mean = processor.image_mean ?? CLIP_MEAN;
  const std = processor.image_std ?? CLIP_STD;
  const crops = processor.do_center_crop === true && processor.do_pad !== true;
  return {
    size,
    mode: mode ?? (crops ? 'crop' : 'pad'),
    background: meanColour(mean),
    normaliseTable: normaliseTable(mean, std, processor.rescale_factor ?? undefined),
  };
}

async function readProcessor(folder: string): Promise<Processor> {
  for (const [name, shape] of fileShapes) {
    const file = join(folder, name);
    let parsed;
    try {
      parsed = shape.parse(JSON.parse(await readFile(file, 'utf8')));
    } catch (cause) {
      if (errorCode(cause) === 'ENOENT' || errorCode(cause) === 'ENOTDIR') continue;
      const reason = cause instanceof z.ZodError ? z.prettifyError(cause) : String(cause);
      throw new DataError(`${file} holds no settings of an image processor: ${reason}.`, {
        code: 'E_PROCESSOR',
        hint: 'Fetch the file again from where the model came from.',
        cause,
      });
    }
    if (parsed.image !== undefined) return parsed.image;
  }
  return {};
}
