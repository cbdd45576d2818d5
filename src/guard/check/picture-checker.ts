/** Pictures of records, each read and decoded to its last pixel; those of the latest records are remembered by their paths. */
import { createHash } from 'node:crypto';

import type { Recipe } from '../../config/index.js';
import { decodeImage, ImageError, type ImageSource, type RecordProblem } from '../../data/index.js';
import { imageBytes, pathOf } from '../../data/loading/load-image.js';
import { isConstant } from './pictures.js';

/** What is known of a picture. */
export interface Picture {
  /** Of its bytes; of its name where it cannot be read. */
  readonly digest: string;
  readonly problem: RecordProblem | null;
  /** Whether it shows nothing. */
  readonly isConstant: boolean;
}

/** Pictures that are remembered: records of one picture tend to be neighbours. */
const REMEMBERED = 4096;

export class PictureChecker {
  readonly #known = new Map<string, Picture>();

  constructor(private readonly reading: Recipe['image']['reading']) {}

  /** @param folder what relative paths start from */
  async look(source: ImageSource, folder: string): Promise<Picture> {
    const key = keyOf(source, folder);
    const known = key === undefined ? undefined : this.#known.get(key);
    if (known !== undefined) return known;
    const picture = await lookAt(source, folder, this.reading);
    if (key !== undefined) {
      if (this.#known.size >= REMEMBERED) this.#known.delete(this.#known.keys().next().value!);
      this.#known.set(key, picture);
    }
    return picture;
  }
}

async function lookAt(
  source: ImageSource,
  folder: string,
  reading: Recipe['image']['reading'],
): Promise<Picture> {
  let digest = nameOf(source);
  try {
    const { bytes, name } = await imageBytes(source, folder);
    digest = createHash('sha1').update(bytes).digest('base64');
    const image = await decodeImage(bytes, { name, reading });
    return { digest, problem: null, isConstant: isConstant(image) };
  } catch (error) {
    if (!(error instanceof ImageError)) throw error;
    const { code, message, hint } = error;
    return { digest, problem: { code, message, hint }, isConstant: false };
  }
}

/** By what a picture is remembered: its path. */
function keyOf(source: ImageSource, folder: string): string | undefined {
  if (typeof source !== 'string' || /^(data|https?):/i.test(source)) return undefined;
  try {
    return pathOf(source, folder);
  } catch (error) {
    if (error instanceof ImageError) return undefined;
    throw error;
  }
}

/** As the record calls it. */
export function nameOf(source: ImageSource): string {
  if (typeof source !== 'string') return source.path ?? 'the picture';
  return /^data:/i.test(source) ? 'the picture of a data: URL' : source;
}
