/** A picture as a vision tower takes it, and as a PNG file to look at. */
import sharp from 'sharp';

import { UsageError } from '../base/errors.js';
import { jsonLine } from '../base/json-text.js';
import { writing } from '../base/system-error.js';
import { writeWholeFile } from '../base/whole-file.js';
import { readImage } from '../data/image/read-image.js';
import type { Reading } from '../data/image/rgb-image.js';
import { fitPicture, type PictureFit } from '../data/image/tile.js';
import { tiledTokens } from '../models/tiles.js';
import type { Session } from './session.js';
import { requireTargets } from './targets.js';

export interface ShowPictureOptions extends PictureFit {
  file: string;
  reading: Reading;
  /** Tokens that it becomes, where that is known. */
  tokens: number | undefined;
  out: string | undefined;
  json: boolean;
  session: Session;
}

const WRITING = 'write the picture';

/** Before a model is looked at for `file`. @throws UsageError `E_OUT`, `E_SAME_FILE`; EnvironmentError for what cannot be written */
export async function requireOut(out: string | undefined, file: string): Promise<void> {
  if (out !== undefined && !/\.png$/i.test(out)) {
    throw new UsageError(`--out ${out} is no name of a PNG file.`, {
      code: 'E_OUT',
      hint: 'Let the name end in .png.',
    });
  }
  await requireTargets({ '--out': out }, WRITING, { '--image': file });
}

/** @throws ImageError; EnvironmentError for what cannot be written */
export async function showPicture({
  file,
  reading,
  tokens,
  out,
  json,
  session,
  ...fit
}: ShowPictureOptions): Promise<void> {
  const image = await readImage(file, { reading });
  const { width, height } = image;
  const fitted = fitPicture(image, fit);
  const pixels = 'views' in fitted ? fitted.views : fitted;
  const { size, tiles } = fit;
  const mode = tiles === undefined ? fit.mode : 'tiles';
  const takes = tokens ?? (tiles && tiledTokens(image, tiles));
  // Views stand below one another.
  const views = pixels.length / (3 * size ** 2);
  if (out !== undefined) {
    const raw = { width: size, height: views * size, channels: 3 } as const;
    const png = await sharp(pixels, { raw }).png().toBuffer();
    await writing(out, WRITING, () => writeWholeFile(out, png));
  }
  if (json) {
    session.stdout.write(
      jsonLine({
        ...{ file, width, height, size, mode, reading, tokens: takes ?? null },
        ...(tiles !== undefined && { views }),
      }),
    );
    return;
  }
  const becomes = takes === undefined ? '' : `, ${takes} tokens`;
  const times = tiles === undefined ? '' : `${views} views of `;
  session.stdout.write(
    `${file}: ${width} x ${height} -> ${times}${size} x ${size} (${mode}, ${reading})${becomes}\n`,
  );
}
