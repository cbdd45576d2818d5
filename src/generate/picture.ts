/** Pictures as a model takes them: the settings that lie with its weights. */
import { DataError } from '../base/errors.js';
import { decodeImage, type DecodeOptions } from '../data/image/decode.js';
import type { FitMode } from '../data/image/fit.js';
import { meanColour, normaliseTable } from '../data/image/normalise.js';
import { readImage } from '../data/image/read-image.js';
import type { RgbImage } from '../data/image/rgb-image.js';
import { fitPicture, type PictureBytes, type PictureFit } from '../data/image/tile.js';
import {
  type Assembly,
  expectComputable,
  findImageProcessor,
  findTiledProcessor,
  type ImageProcessor,
  inMode,
  type LanguageModel,
  Llava,
  type PictureTower,
  type TileFacts,
} from '../models/index.js';

export interface PictureSettings extends PictureFit {
  /** How the model's files make pictures into squares; `mode` is how it is done. */
  readonly own: FitMode;
  readonly background: readonly [red: number, green: number, blue: number];
  /** The same for other tools. */
  readonly processor: ImageProcessor;
}

/**
 * Chooses how pictures become squares.
 *
 * @param own how the model's files do it
 * @param trained how a checkpoint was trained
 */
export type ChooseMode = (
  own: FitMode,
  facts: { readonly tower: PictureTower; readonly trained: FitMode | undefined },
) => FitMode;

export interface PictureOptions {
  /** The vision tower of the model. */
  tower: PictureTower;
  /** Where the model takes tiles. @default it does not */
  tiles?: TileFacts | undefined;
  /** Plays no part where it takes tiles. @default what the files say, else `pad` */
  mode?: FitMode | ChooseMode | undefined;
  /** How a checkpoint was trained, for who chooses. */
  trained?: FitMode | undefined;
}

/**
 * Settings of the pictures for the model in a folder, or put together from several: those of its tower, for CLIP padded to a square,
 * unless their files say otherwise.
 *
 * @throws ConfigError `E_CONFIG`, also for what Patina does not compute; DataError `E_JSON`
 */
export async function readPictureSettings(
  where: string | Pick<Assembly, 'sources' | 'configs'>,
  { tower, tiles, mode, trained }: PictureOptions,
): Promise<PictureSettings> {
  if (tiles !== undefined) {
    const processor = await findTiledProcessor(where, tiles, tower);
    const background = meanColour(processor.mean);
    const { mode: own } = processor;
    return { size: tiles.size, mode: own, own, background, processor, tiles };
  }
  const found = await findImageProcessor(where, tower);
  const own = found.mode;
  const chosen = typeof mode === 'function' ? mode(own, { tower, trained }) : mode;
  const processor: ImageProcessor = chosen === undefined ? found : inMode(found, chosen);
  const size = tower.imageSize;
  expectComputable(processor, size);
  return { size, mode: processor.mode, own, background: meanColour(processor.mean), processor };
}

/**
 * The settings of a model's pictures, which it normalises by them from then on; `null` for a decoder alone.
 *
 * @throws those of `readPictureSettings`
 */
export async function usePictures(
  model: LanguageModel,
  where: string | Pick<Assembly, 'sources' | 'configs'>,
  options: Pick<PictureOptions, 'mode' | 'trained'> = {},
): Promise<PictureSettings | null> {
  if (!(model instanceof Llava)) return null;
  const settings = await readPictureSettings(where, { ...pictureFacts(model), ...options });
  const { mean, std, rescaleFactor } = settings.processor;
  model.normaliseBy(normaliseTable(mean, std, rescaleFactor));
  return settings;
}

/** What a model says of the pictures that it takes. */
export function pictureFacts({ config }: Llava): Pick<PictureOptions, 'tower' | 'tiles'> {
  return { tower: config.vision, tiles: config.tiles ?? undefined };
}

export interface ReadPictureOptions extends Partial<DecodeOptions> {
  /** How many pictures its conversation has. @default 1 */
  pictures?: number | undefined;
}

/**
 * The pixels that a model sees of a picture.
 *
 * @param picture a path, or the bytes of a file
 * @param settings of the model's pictures; `null` where it takes none
 * @throws ImageError; DataError `E_NO_VISION`
 */
export async function readPicture(
  picture: string | Uint8Array,
  settings: PictureSettings | null,
  { pictures, ...options }: ReadPictureOptions = {},
): Promise<PictureBytes> {
  if (settings === null) throw noPictures();
  return fitPicture(await decodePicture(picture, options), settings, pictures);
}

/** A picture as it is. @throws ImageError */
export async function decodePicture(
  picture: string | Uint8Array,
  options: Partial<DecodeOptions> = {},
): Promise<RgbImage> {
  return typeof picture === 'string'
    ? readImage(picture, options)
    : decodeImage(picture, { name: 'the picture', ...options });
}

export function noPictures(): DataError {
  return new DataError('This model takes no pictures: it has no vision tower.', {
    code: 'E_NO_VISION',
    hint: 'Choose a LLaVA, or ask without pictures.',
  });
}
